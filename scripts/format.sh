#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Formats the sources with clang-format 14 (.clang-format); other versions would format otherwise. Headers
# are manuals: their comments stand in columns set by hand, which the tool would tear apart.
#     scripts/format.sh [--check]     --check changes nothing: exit 1 and the places; 77 without clang-format 14
set -euo pipefail
cd "$(dirname "$0")/.."
tool=
for name in clang-format-14 clang-format; do
    if "$name" --version 2>/dev/null | grep -q 'version 14\.'; then
        tool=$name
        break
    fi
done
if [ -z "$tool" ]; then
    echo "format: clang-format 14 is not installed" >&2
    exit 77
fi
mapfile -t files < <(find core kernels data checkpoints train tests \
    \( -name '*.c' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cc' \) -type f | sort)
if [ "${1:-}" = --check ]; then
    "$tool" --dry-run --Werror "${files[@]}"
else
    "$tool" -i "${files[@]}"
fi
