#!/bin/sh
# Make a virtual environment with Headrace in it: setup.sh PYTHON VENV
# System libraries that are missing are installed with apt if that is possible here; otherwise one sentence says which.
set -eu
python=$1
venv=$2

missing=""
need() { missing="$missing $1"; }
has_library() { ldconfig -p 2>/dev/null | grep -q "$1"; }

command -v "$python" >/dev/null 2>&1 || need python3
if command -v "$python" >/dev/null 2>&1; then
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "Headrace needs Python 3.11 or later; $python is $("$python" -V 2>&1). Try: make PYTHON=python3.12 ..." >&2
        exit 1
    }
    "$python" -c 'import ensurepip, venv' 2>/dev/null || need python3-venv
    # robosuite brings evdev, which is compiled during installation.
    "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' || need python3-dev
fi
command -v cc >/dev/null 2>&1 || need gcc
[ -e /usr/include/linux/input.h ] || need linux-libc-dev
# OpenGL without a screen.
has_library libEGL.so.1 || need libegl1
has_library libEGL_mesa.so.0 || need libegl-mesa0
has_library libGL.so.1 || need libgl1
has_library libglib-2.0.so.0 || need libglib2.0-0
# The tests read JPEG with an independent library.
has_library libturbojpeg.so.0 || need libturbojpeg0

# Wanted, not needed. Debian 13 and later have no OSMesa any more; there EGL draws on the CPU as well. The tests open
# shards with h5ls and h5dump too, and make hosts with ip, where these are.
wanted=""
has_library libOSMesa.so || wanted="$wanted libosmesa6"
command -v h5dump >/dev/null 2>&1 || wanted="$wanted hdf5-tools"
command -v ip >/dev/null 2>&1 || wanted="$wanted iproute2"

if [ -n "$missing$wanted" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        apt-get update -qq
        for package in $wanted; do
            if apt-cache show "$package" >/dev/null 2>&1; then
                missing="$missing $package"
            fi
        done
    fi
fi
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        # shellcheck disable=SC2086 -- one word a package
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    else
        echo "Please install these packages first:$missing" >&2
        echo "  sudo apt-get install$missing" >&2
        exit 1
    fi
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
echo "installing Python packages into $venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[all,ray,test,check]'
