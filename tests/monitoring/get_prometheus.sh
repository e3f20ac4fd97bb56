#!/bin/sh
# Unpack Debian's Prometheus into a folder, for the tests: get_prometheus.sh FOLDER
# Nothing is installed and nothing is started. Where it cannot be had, FOLDER/missing says why and the tests are skipped.
set -eu
folder=$1
rm -rf "$folder"
mkdir -p "$folder"
give_up() {
    echo "$1" >"$folder/missing"
    echo "no Prometheus for the tests: $1" >&2
    exit 0
}

if command -v prometheus >/dev/null && command -v promtool >/dev/null; then
    mkdir -p "$folder/bin"
    ln -s "$(command -v prometheus)" "$(command -v promtool)" "$folder/bin/"
    exit 0
fi
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || give_up "apt-get and dpkg-deb are needed, or prometheus on the PATH"
cd "$folder"
apt-get download -qq prometheus >download.log 2>&1 ||
    { [ "$(id -u)" = 0 ] && apt-get update -qq >>download.log 2>&1 && apt-get download -qq prometheus >>download.log 2>&1; } ||
    give_up "apt-get download prometheus: $(tail -n 1 download.log)"
dpkg-deb -x prometheus_*.deb unpacked
rm prometheus_*.deb
mkdir bin
mv unpacked/usr/bin/prometheus unpacked/usr/bin/promtool bin/
rm -rf unpacked
