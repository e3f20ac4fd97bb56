#!/bin/sh
# Chromium for tests/page, if that is possible here; without it those tests are skipped.
set -eu
command -v chromium >/dev/null 2>&1 && exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "the tests of the page in a browser will be skipped: no Chromium here; to run them: sudo apt-get install chromium"
    exit 0
fi
apt-get update -qq || true
if ! apt-cache show chromium >/dev/null 2>&1; then
    echo "the tests of the page in a browser will be skipped: this system's packages have no chromium"
    exit 0
fi
echo "installing Chromium for tests/page"
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null || {
    echo "the tests of the page in a browser will be skipped: Chromium could not be installed"
}
