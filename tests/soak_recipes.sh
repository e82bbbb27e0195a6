#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# ECGFounder's pretraining recipes as they are written, of 12 leads and of one with lead augmentation, on a simulated corpus:
# the published network, batches of 1024, Hill's loss; it must fall. The corpus is small, so the run ends after two epochs.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/support/shell.inc
. tests/support/shell.inc

epochs=2
"$einthoven" -q synth --out "$tmp/ecgs" --records 1200 --seed 5
for recipe in pretrain_12lead pretrain_1lead; do
    "$einthoven" -q pretrain "configs/$recipe.yaml" --out "$tmp/$recipe" --set train.epochs=$epochs \
        --set "data.train={path: $tmp/ecgs, part: [0, 0.95]}" --set "data.valid={path: $tmp/ecgs, part: [0.95, 1]}"
    status=0
    # Whole batches: the first, before any update, and the last; the rest of an epoch is a small one.
    losses=$(grep '"kind":"train"' "$tmp/$recipe/metrics.jsonl" | sed 's/.*"loss":\([0-9.e-]*\).*/\1/')
    first=$(sed -n 1p <<<"$losses") last=$(sed -n "$((2 * epochs - 1))p" <<<"$losses")
    awk -v a="$first" -v b="$last" 'BEGIN { exit !(a > 0 && b > 0 && b < a) }' || status=1
    verdict $status "$recipe as written: Hill's loss $first at the start, $last in epoch $epochs"
done
finish
