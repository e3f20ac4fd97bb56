#!/bin/sh
# Unpack Debian's Prometheus into a folder, for the tests: get_prometheus.sh FOLDER
# Nothing is installed and nothing is started. Where it cannot be had, FOLDER/missing says why and the tests are skipped.
set -eu
folder=$1
part=$folder.part # the folder appears whole, or not at all
rm -rf "$folder" "$part"
mkdir -p "$part/bin"
finish() {
    mv "$part" "$folder"
    exit 0
}
give_up() {
    echo "$1" >"$part/missing"
    echo "no Prometheus for the tests: $1" >&2
    finish
}
download() {
    (cd "$part" && apt-get download -qq prometheus) >"$part/download.log" 2>&1
}

if command -v prometheus >/dev/null && command -v promtool >/dev/null; then
    ln -s "$(command -v prometheus)" "$(command -v promtool)" "$part/bin/"
    finish
fi
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || give_up "apt-get and dpkg-deb are needed, or prometheus on the PATH"
if ! download; then
    [ "$(id -u)" != 0 ] || apt-get update -qq >/dev/null 2>&1 || true
    download || give_up "apt-get download prometheus: $(tail -n 1 "$part/download.log")"
fi
dpkg-deb -x "$part"/prometheus_*.deb "$part/unpacked"
mv "$part/unpacked/usr/bin/prometheus" "$part/unpacked/usr/bin/promtool" "$part/bin/"
rm -r "$part"/prometheus_*.deb "$part/unpacked"
finish
