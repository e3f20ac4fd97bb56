#!/bin/sh
# What tests/systemd and the rendered files in tests/deploy are tested with, if that is possible here; without it those
# tests are skipped, and say so.
set -eu
PATH=$PATH:/usr/sbin:/sbin
packages=""
for program in systemctl systemd-analyze systemd-sysusers systemd-tmpfiles; do
    command -v "$program" >/dev/null 2>&1 || packages="systemd"
done
[ -x /lib/systemd/systemd ] || packages="systemd"
command -v ip >/dev/null 2>&1 || packages="$packages iproute2"
command -v unshare >/dev/null 2>&1 && command -v nsenter >/dev/null 2>&1 || packages="$packages util-linux"
command -v kubectl >/dev/null 2>&1 || kubectl=missing
[ -n "$packages${kubectl:-}" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "some tests of units and manifests will be skipped; they need:$packages ${kubectl:+kubectl (1.21 or later)}"
    exit 0
fi
apt-get update -qq
if [ -n "${kubectl:-}" ]; then
    # Debian 12 has one from 2020, which knows no components of kustomize.
    version=$(apt-cache policy kubernetes-client | sed -n 's/^ *Candidate: //p')
    if dpkg --compare-versions "${version:-0}" ge 1.21; then
        packages="$packages kubernetes-client"
    else
        echo "tests that render manifests with kubectl will be skipped: Debian's kubectl is too old here (1.21 or later)"
    fi
fi
[ -n "$packages" ] || exit 0
echo "installing for tests of units and manifests:$packages"
# shellcheck disable=SC2086 -- one word a package
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
