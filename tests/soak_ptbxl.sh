#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Real ECGs, where the shared recordings are there: PTB-XL's superclasses from scratch by configs/ptbxl_superclass.yaml in
# fp32 and in bf16, then fine-tuned to age and to sex, beside a ridge regression on the same folds.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/support/shell.inc
. tests/support/shell.inc

source=../shared/ecg/ptbxl_1625_100hz.h5
if [ ! -e "$source" ]; then
    skip "PTB-XL (no shared recordings here)"
    finish
    exit
fi
cat >"$tmp/map.yaml" <<MAP
signal: tracings
layout: NLC
sampling_rate: 100
scale: 0.001
units: none
leads: [I, II, III, aVR, aVL, aVF, V1, V2, V3, V4, V5, V6]
labels: {superclass: [NORM, MI, STTC, CD, HYP], sex: [female]}
targets: {age: {dataset: age, unknown: [300]}}
record_id: ecg_id
patient_id: patient_id
fold: strat_fold
MAP
"$einthoven" -q import hdf5 "$source" --map "$tmp/map.yaml" --out "$tmp/ptbxl"
folds=(--set data.train="{path: $tmp/ptbxl, fold: 1-8}" --set data.valid="{path: $tmp/ptbxl, fold: 9}")

# at_least A B: both numbers, A >= B
at_least() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a + 0 >= b + 0 && a ~ /^[0-9.e+-]+$/) }'; }
check() { # A B TEXT
    local status=0
    at_least "$1" "$2" || status=1
    verdict $status "$3"
}
# The last metric KEY of fold 9, by the best weights of a run.
on_fold_9() { # RUN KEY
    "$einthoven" -q evaluate --weights "$1" --data "{path: $tmp/ptbxl, fold: 9}" --out "$1-test" >/dev/null
    sed -n "s/.*\"$2\": *\([-0-9.e]*\).*/\1/p" "$1-test/metrics.json" | head -n 1
}

for precision in fp32 bf16; do
    "$einthoven" -q pretrain configs/ptbxl_superclass.yaml "${folds[@]}" --out "$tmp/$precision" \
        --set data.labels='[NORM, MI, STTC, CD, HYP]' --set train.precision=$precision
done
fp32=$(on_fold_9 "$tmp/fp32" auroc)
bf16=$(on_fold_9 "$tmp/bf16" auroc)
check "$fp32" 0.925 "superclasses in fp32: macro AUROC $fp32 (at least 0.925)"
check "$(awk -v a="$fp32" -v b="$bf16" 'BEGIN { print 0.01 - (a > b ? a - b : b - a) }')" 0 \
    "superclasses in bf16: macro AUROC $bf16 (within 0.01)"

finetune() { # RUN HEAD
    "$einthoven" -q finetune configs/finetune.yaml --weights "$tmp/fp32" "${folds[@]}" --set data.test=null --set "$2" \
        --out "$tmp/$1"
}
finetune sex 'head.labels=[female]'
finetune age 'head.targets=[age]'
sex=$(on_fold_9 "$tmp/sex" auroc) age=$(on_fold_9 "$tmp/age" mae)
ridge=$(/usr/bin/python3 scripts/ridge_baseline.py "$tmp/ptbxl" --train 1-8 --test 9 --labels female --targets age 2>&1) || true
ridge_sex=$(sed -n 's/.*AUROC *//p' <<<"$ridge") ridge_age=$(sed -n 's/.*MAE *//p' <<<"$ridge")
if [ -n "$ridge_sex" ] && [ -n "$ridge_age" ]; then
    check "$sex" "$ridge_sex" "sex: AUROC $sex (ridge $ridge_sex)"
    check "$ridge_age" "$age" "age: MAE $age years (ridge $ridge_age)"
else
    skip "age and sex beside a ridge regression ($(tail -n 1 <<<"$ridge"))"
fi
finish
