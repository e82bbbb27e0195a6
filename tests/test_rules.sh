#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The include rule can be broken: each kind of break, put into a small tree, is found and named.
set -euo pipefail
cd "$(dirname "$0")/.."
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
passed=0 failed=0

fresh() {
    rm -rf "${tmp:?}/tree"
    mkdir -p "$tmp"/tree/{core,kernels/ref,kernels/cpu,data,checkpoints,train/cli}
    for header in core/a kernels/ops kernels/ref/r kernels/cpu/c data/d checkpoints/s train/cli/t; do
        echo '/* empty */' >"$tmp/tree/$header.h"
    done
    printf '#include "core/a.h"\n#include "data/d.h"\n#include <hdf5.h>\n' >"$tmp/tree/data/h5.c"
    printf '#include <stdio.h>\n# include "kernels/ops.h"\n#include "data/d.h"\n' >"$tmp/tree/train/cli/main.c"
}

# The tree with one more file: FILE holding LINE is refused with a message that has TEXT ("": accepted).
expect() { # TEXT FILE LINE
    local said
    fresh
    printf '%s\n' "$3" >"$tmp/tree/$2"
    if said=$(scripts/check_includes.sh "$tmp/tree" 2>&1); then said=""; else said="refused: $said"; fi
    if { [ -z "$1" ] && [ -z "$said" ]; } || { [ -n "$1" ] && [[ "$said" == *"$1"* ]]; }; then
        passed=$((passed + 1))
    else
        echo "FAILED  $2 with $3: got '$said', wanted '$1'"
        failed=$((failed + 1))
    fi
}

expect "" core/x.c '#include "core/a.h"'
expect "" kernels/x.c '#include "core/a.h"'
expect "" train/x.c '#include "checkpoints/s.h"'
expect "core may not include kernels" core/x.c '#include "kernels/ops.h"'
expect "kernels may not include data" kernels/x.c '#include "data/d.h"'
expect "data may not include kernels" data/x.c '  #  include "kernels/ops.h"'
expect "data may not include checkpoints" data/x.h '#include "checkpoints/s.h"'
expect "checkpoints may not include data" checkpoints/x.c '#include "data/d.h"'
expect "kernels may not include train" kernels/x.cu '#include "train/cli/t.h"'
expect "kernels/ref may not include kernels/cpu" kernels/ref/x.c '#include "kernels/cpu/c.h"'
expect "kernels/cpu may not include kernels/ref" kernels/cpu/x.c '#include "kernels/ref/r.h"'
expect "not a path from the root" data/x.c '#include "d.h"'
expect "already included by data/h5.c" data/x.c '#include <hdf5.h>'
expect "already included by" train/x.c '#include <hdf5/serial/hdf5.h>'
expect "is ours" train/x.c '#include <core/a.h>'
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
