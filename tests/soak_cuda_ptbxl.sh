#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Real ECGs on device cuda, emulated, where the shared recordings are there: PTB-XL's superclasses from scratch by a narrow
# network in two epochs, from import to evaluation, in fp32 and in bf16, beside the same run on device cpu.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/support/shell.inc
. tests/support/shell.inc

source=../shared/ecg/ptbxl_1625_100hz.h5
export EINTHOVEN_CUDA_LIB=$PWD/build/emu/libeinthoven_cuda.so
missing=
[ -e "$source" ] || missing="no shared recordings here"
[ -e "$EINTHOVEN_CUDA_LIB" ] || missing="the emulated CUDA backend is not built: make emu"
if [ -n "$missing" ]; then
    skip "PTB-XL on device cuda ($missing)"
    finish
    exit
fi
EMU_THREADS=$(nproc)
export EMU_THREADS
cat >"$tmp/map.yaml" <<MAP
signal: tracings
layout: NLC
sampling_rate: 100
scale: 0.001
units: none
leads: [I, II, III, aVR, aVL, aVF, V1, V2, V3, V4, V5, V6]
labels: {superclass: [NORM, MI, STTC, CD, HYP]}
record_id: ecg_id
patient_id: patient_id
fold: strat_fold
MAP
"$einthoven" -q import hdf5 "$source" --map "$tmp/map.yaml" --out "$tmp/ptbxl"
# Widths that tensor cores take in bf16.
cat >"$tmp/narrow.yaml" <<CONFIG
model: {base_filters: 16, filters: [16, 32, 32], blocks: [1, 1, 1]}
data:
  train: {path: $tmp/ptbxl, fold: 1-3}
  valid: {path: $tmp/ptbxl, fold: 9}
loss: {name: bce}
optim: {name: adamw, lr: 2e-3, weight_decay: 1e-2}
train: {batch_size: 16, epochs: 2}
CONFIG

# Trains and evaluates on a device; the macro AUROC of fold 9 into $auroc.
run_on() { # DEVICE PRECISION
    local run=$tmp/$1-$2
    "$einthoven" -q pretrain "$tmp/narrow.yaml" --set train.device="$1" --set train.precision="$2" --out "$run"
    "$einthoven" -q evaluate --weights "$run" --data "{path: $tmp/ptbxl, fold: 9}" --device "$1" --out "$run-test" >/dev/null
    auroc=$(sed -n 's/.*"auroc": *\([-0-9.e]*\).*/\1/p' "$run-test/metrics.json" | head -n 1)
}
for precision in fp32 bf16; do
    run_on cpu $precision
    cpu=$auroc
    run_on cuda $precision
    cuda=$auroc
    # The cpu's has to say something, for a network that has learnt nothing is at 0.5 on any device.
    status=0
    awk -v a="$cuda" -v b="$cpu" 'BEGIN {
        number = "^[0-9.]+(e[-+]?[0-9]+)?$"
        d = a > b ? a - b : b - a
        exit !(a ~ number && b ~ number && b >= 0.75 && d <= 0.01)
    }' || status=1
    verdict $status "superclasses in $precision: macro AUROC $cuda on cuda, $cpu on cpu (within 0.01, and 0.75 on cpu)"
done
finish
