#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What pretraining is worth on real ECGs, where the shared recordings are there: PTB-XL's 71 statements of folds 1-8 to
# pretrain on, then a tenth of those patients to learn the five superclasses, and sex, from. Five seeds, fold 9 for the figure.
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
if ! codes=$(/usr/bin/python3 -c "import h5py; print(h5py.File('$source')['scp'].attrs['codes'])" 2>&1); then
    skip "PTB-XL's statements (${codes##*$'\n'})"
    finish
    exit
fi
import() { # OUT LABELS
    cat >"$tmp/map.yaml" <<MAP
signal: tracings
layout: NLC
sampling_rate: 100
scale: 0.001
units: none
leads: [I, II, III, aVR, aVL, aVF, V1, V2, V3, V4, V5, V6]
labels: {$2}
record_id: ecg_id
patient_id: patient_id
fold: strat_fold
MAP
    "$einthoven" -q import hdf5 "$source" --map "$tmp/map.yaml" --out "$1"
}
import "$tmp/statements" "scp: [$codes]"
import "$tmp/tasks" "superclass: [NORM, MI, STTC, CD, HYP], sex: [female]"
start=$SECONDS
"$einthoven" -q pretrain configs/ptbxl_superclass.yaml --set data.train="{path: $tmp/statements, fold: 1-8}" \
    --set data.valid=null --set train.epochs=40 --set optim.lr=3e-3 --set optim.weight_decay=5e-2 \
    --set model.dropout=0.4 --set model.drop_path=0.2 --out "$tmp/pretrained"

study() { # NAME LABELS
    "$einthoven" -q study configs/ptbxl_study.yaml --weights "$tmp/pretrained" --out "$tmp/$1" --fractions 0.1 --seeds 5 \
        --set data.train="{path: $tmp/tasks, fold: 1-8}" --set data.test="{path: $tmp/tasks, fold: 9}" \
        --set head.labels="[$2]" | tee "$tmp/$1.txt"
}
mean_of() { awk -v mode="$2" '$2 == mode { print $4 }' "$tmp/$1.txt"; } # NAME MODE
for task in superclasses:NORM,MI,STTC,CD,HYP sex:female; do
    name=${task%%:*}
    study "$name" "${task#*:}"
    best=$(for mode in probe full lp-ft; do mean_of "$name" $mode; done | sort -g | tail -n 1)
    random=$(mean_of "$name" random)
    gain=$(awk -v a="$best" -v b="$random" 'BEGIN { printf "%.4f", a - b }')
    echo "$name: the best pretrained way $best, from random weights $random, gain $gain"
done | tee "$tmp/report"
gain=$(sed -n 's/^superclasses: .*gain //p' "$tmp/report")
status=0
awk -v g="$gain" 'BEGIN { exit !(g ~ /^-?[0-9.]+$/ && g >= 0.02) }' || status=1
verdict $status "superclasses from a tenth of the patients: pretraining gains $gain in macro_auroc (at least 0.02)"
echo "took $((SECONDS - start)) s"
finish
