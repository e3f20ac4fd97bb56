#!/bin/sh
# A server for tests/ssh, and tmux, if that is possible here; without them those tests are skipped and say why.
set -eu
PATH=$PATH:/usr/sbin:/sbin
for program in sshd ssh ssh-keygen tmux; do
    command -v "$program" >/dev/null 2>&1 || missing=yes
done
[ -n "${missing:-}" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "tests/ssh will be skipped: no sshd or tmux here; to run them: sudo apt-get install openssh-server tmux"
    exit 0
fi
echo "installing sshd and tmux for tests/ssh"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends openssh-server tmux >/dev/null
