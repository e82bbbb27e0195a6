#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Every header compiles alone in C11 (but *_template.h, which are meant to be included in the middle of a
# file); kernels/*.h and the core headers that kernels include are valid C++17 too, since .cu files see them.
# The headers of kernels/cuda and of its emulation are C++17 alone.
#     scripts/check_headers.sh     exit 1 when one does not, 77 when there is no C++ compiler
set -euo pipefail
cd "$(dirname "$0")/.."
cc=${CC:-gcc} cxx=${CXX:-g++}
warn=(-Wall -Wextra -Wundef -Werror -I. -Itests/emu -fsyntax-only)
read -ra packages < <(pkg-config --cflags hdf5-serial libdeflate jansson yaml-0.1 libxxhash 2>/dev/null || echo)
failed=0

# Through a file that includes it: a header as main file would warn about its own pragma or guard.
compiles() { # COMPILER LANGUAGE STANDARD HEADER
    # shellcheck disable=SC2086 # a compiler may have options
    printf '#include "%s"\n' "$4" | $1 -x "$2" "-std=$3" -D_GNU_SOURCE "${warn[@]}" "${packages[@]}" - && return
    echo "$4 does not compile alone as $3"
    failed=1
}

while read -r header; do
    compiles "$cc" c c11 "$header"
done < <(find core kernels data checkpoints train tests/support -name '*.h' ! -name '*_template.h' \
    ! -path 'kernels/cuda/*' | sort)

if ! command -v "$cxx" >/dev/null; then
    echo "check_headers: no $cxx: not checked as C++"
    [ "$failed" = 1 ] || exit 77
    exit 1
fi
while read -r header; do
    compiles "$cxx -DEINTHOVEN_EMU" c++ c++17 "$header"
done < <({ find kernels tests/emu kernels/cuda -maxdepth 1 -name '*.h' ! -name '*_template.h'; grep -hoE '#include "core/[a-z0-9_]+\.h"' -r kernels | grep -oE 'core/[a-z0-9_]+\.h'; } | sort -u)
exit "$failed"
