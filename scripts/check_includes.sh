#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The include rule: which folder may include which, and that each outside library is included by one file
# only, so that a dependency can be changed in one place. tests/ may include anything.
#     scripts/check_includes.sh [ROOT]     exit 1 and one line for each break of the rule
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"

sources=$(find core kernels data checkpoints train -type f \
    \( -name '*.c' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp' \) 2>/dev/null | sort)
[ -n "$sources" ] || { echo "check_includes: no sources in $PWD" >&2; exit 1; }

# shellcheck disable=SC2086 # our paths have no spaces
awk '
BEGIN {
    may["core"] = " core "
    may["kernels"] = " kernels core "
    may["data"] = " data core "
    may["checkpoints"] = " checkpoints core "
    may["train"] = " train kernels data checkpoints core "
    split("ref cpu cuda", list, " ")
    for (i in list) backend["kernels/" list[i]] = 1
    n_vendors = split("hdf5 mpi nccl cudnn cublas yaml jansson", list, " ")
    for (i = 1; i <= n_vendors; i++) vendor[list[i]] = 1
}
function bad(text) { printf "%s:%d: %s\n", FILENAME, FNR, text; broken = 1 }
function folder(path, parts) { split(path, parts, "/"); return parts[1] }
function folder2(path, parts) { split(path, parts, "/"); return parts[1] "/" parts[2] }
/^[ \t]*#[ \t]*include[ \t]*"/ {
    split($0, piece, "\"")
    target = piece[2]
    from = folder(FILENAME); to = folder(target)
    if (system("test -f \"" target "\"") != 0)
        bad("\"" target "\" is not a path from the root of the project")
    else if (!index(may[from], " " to " "))
        bad(from " may not include " to " (\"" target "\")")
    else if (folder2(FILENAME) in backend && folder2(target) in backend && folder2(FILENAME) != folder2(target))
        bad(folder2(FILENAME) " may not include " folder2(target))
    next
}
/^[ \t]*#[ \t]*include[ \t]*</ {
    target = $0
    sub(/^[^<]*</, "", target); sub(/>.*/, "", target)
    name = target
    sub(/.*\//, "", name); sub(/(_v[0-9]+)?\.h$/, "", name); sub(/(Lt|Xt)$/, "", name)
    if (name in vendor) {
        if (name in owner && owner[name] != FILENAME)
            bad("<" target "> is already included by " owner[name] "; one file only")
        owner[name] = FILENAME
    }
    if (target ~ /^(core|kernels|data|checkpoints|train|tests)\//)
        bad("<" target "> is ours: write it with quotes")
}
END { exit broken }
' $sources
