#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The whole line in a few minutes on two cores: simulate two cohorts, pretrain a small Net1D on the first, fine-tune it to
# another task of the second (linear probe and in full), evaluate on patients that no step has seen, print one table.
set -euo pipefail
cd "$(dirname "$0")/.."
einthoven=build/einthoven
out=${1:-runs/demo}
if [ -e "$out" ]; then
    old="$out.$(date +%Y%m%d-%H%M%S)"
    mv "$out" "$old"
    echo "demo: moved the earlier $out to $old"
fi
mkdir -p "$out"

step() { printf '\n== %s\n' "$*"; }

step "1/5  simulate two cohorts of 12-lead ECGs (10 s at 100 Hz)"
$einthoven synth --out "$out/cohort-a" --records 3000 --seed 1 --rate 100
$einthoven synth --out "$out/cohort-b" --records 1500 --seed 2 --rate 100

step "2/5  pretrain a small Net1D on cohort A's diagnoses"
$einthoven pretrain configs/demo_pretrain.yaml --out "$out/pretrain" \
    --set data.train="{path: $out/cohort-a, part: [0, 0.85]}" \
    --set data.valid="{path: $out/cohort-a, part: [0.85, 1]}"

# Patients of cohort B: 60 % train, 15 % choose the best weights, 25 % are seen by nothing but the last evaluation.
finetune() {
    local run=$1
    shift
    $einthoven finetune configs/finetune.yaml --weights "$out/pretrain" --out "$out/$run" --set 'head.targets=[qt_ms]' \
        --set data.train="{path: $out/cohort-b, part: [0, 0.6]}" \
        --set data.valid="{path: $out/cohort-b, part: [0.6, 0.75]}" --set data.test=null "$@"
}
test_part="{path: $out/cohort-b, part: [0.75, 1]}"

step "3/5  fine-tune to the QT interval on cohort B, the head alone (linear probe)"
finetune probe --set head.freeze=true --set optim.lr=1e-2

step "4/5  fine-tune to the QT interval on cohort B, in full"
finetune full

step "5/5  evaluate on held-out patients"
$einthoven evaluate --weights "$out/pretrain" --data "$test_part" --out "$out/test-pretrain"
for run in probe full; do
    $einthoven evaluate --weights "$out/$run" --data "$test_part" --out "$out/test-$run"
done

# number FILE KEY: the first number of that key in a metrics.json
number() { sed -n "s/.*\"$2\": *\([-0-9.e]*\).*/\1/p" "$1" | head -n 1; }
row() { printf '%-44s %-12s %8.3f\n' "$1" "$2" "$3"; }
printf '\n%-44s %-12s %8s\n' "held-out patients of cohort B" "metric" "value"
row "diagnoses, pretrained on cohort A" "macro AUROC" "$(number "$out/test-pretrain/metrics.json" auroc)"
for run in probe full; do
    row "QT interval in ms, fine-tuned ($run)" "MAE" "$(number "$out/test-$run/metrics.json" mae)"
    row "QT interval in ms, fine-tuned ($run)" "R2" "$(number "$out/test-$run/metrics.json" r2)"
done
printf '\nRuns, weights and metrics lie in %s (einthoven inspect %s/full).\n' "$out" "$out"
