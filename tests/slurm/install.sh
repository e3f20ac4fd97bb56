#!/bin/sh
# Slurm's daemons for tests/slurm, if that is possible here; without them those tests are skipped.
set -eu
PATH=$PATH:/usr/sbin:/sbin
for program in munged slurmctld slurmd sbatch; do
    command -v "$program" >/dev/null 2>&1 || missing=yes
done
[ -n "${missing:-}" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "tests/slurm will be skipped: no Slurm here; to run them: sudo apt-get install slurmctld slurmd slurm-client munge"
    exit 0
fi
echo "installing Slurm for tests/slurm"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge >/dev/null
