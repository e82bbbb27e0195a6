#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs the Debian packages that are missing, after saying which.
#     scripts/setup.sh          what the build needs
#     scripts/setup.sh test     and what the tests need; the virtual environment build/venv gets PyPI's wfdb
#                               and safetensors (without it the tests that need them are skipped)
#     scripts/setup.sh soak     and a Slurm, for which the tests that need one start daemons of their own; without it they are skipped
# EINTHOVEN_NO_INSTALL=1: only says what is missing and then exits 1.
set -euo pipefail
cd "$(dirname "$0")/.."
packages=(gcc libc6-dev make pkg-config libhdf5-dev libdeflate-dev libjansson-dev libyaml-dev libxxhash-dev)
optional=()
case ${1:-} in
'') ;;
test | soak)
    packages+=(g++ clang-format ca-certificates python3 python3-venv python3-numpy python3-scipy python3-h5py
        python3-sklearn python3-torch libopenmpi-dev openmpi-bin procps shellcheck)
    if [ "$1" = soak ]; then optional=(slurmctld slurmd slurm-client munge); fi
    ;;
*)
    echo "setup: unknown argument $1 (nothing, test or soak)" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    if pkg-config --exists hdf5-serial libdeflate jansson yaml-0.1 libxxhash 2>/dev/null && command -v gcc >/dev/null; then
        exit 0
    fi
    echo "setup: this is not a Debian system; install what these packages hold: ${packages[*]}" >&2
    exit 1
fi

is_installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

find_missing() { # PACKAGE...
    local package
    missing=()
    for package in "$@"; do
        is_installed "$package" || missing+=("$package")
    done
}

install_missing() {
    local as_root=()
    if [ "${EINTHOVEN_NO_INSTALL:-}" = 1 ]; then
        echo "setup: missing packages: ${missing[*]}" >&2
        echo "setup: install them with: sudo apt-get install ${missing[*]}" >&2
        exit 1
    fi
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "setup: missing packages, and neither root nor sudo to install them: ${missing[*]}" >&2
            exit 1
        fi
        as_root=(sudo)
    fi
    echo "setup: installing ${missing[*]}"
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
}

find_missing "${packages[@]}"
if [ ${#missing[@]} -gt 0 ]; then install_missing; fi
find_missing "${optional[@]}"
if [ ${#missing[@]} -gt 0 ]; then
    (install_missing) || echo "setup: without ${missing[*]}: the tests that need them are skipped" >&2
fi

# The virtual environment is a bonus: a failure is remembered, so that a machine with no network is not
# kept waiting by every run.
make_venv() {
    python3 -m venv build/venv &&
        build/venv/bin/python -m pip install -q --disable-pip-version-check --timeout 15 --retries 1 wfdb safetensors h5py
}

if [ -n "${1:-}" ] && [ "${EINTHOVEN_NO_INSTALL:-}" != 1 ]; then
    if ! build/venv/bin/python -c 'import wfdb, safetensors' 2>/dev/null && [ ! -e build/venv-failed ]; then
        echo "setup: making build/venv with wfdb and safetensors from PyPI"
        mkdir -p build
        if ! make_venv >build/venv.log 2>&1; then
            rm -rf build/venv
            mv build/venv.log build/venv-failed
            echo "setup: no build/venv (build/venv-failed has the reason; remove it to try again)"
        fi
    fi
fi
