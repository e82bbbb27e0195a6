#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Training on augmented, mixed and balanced records: another number of workers, a kill and a stop in the middle of an epoch
# change no bit; validation sees records as they are; what the config asks for in vain is refused.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/support/shell.inc
. tests/support/shell.inc

"$einthoven" -q synth --out "$tmp/ecgs" --records 130 --seed 5 --rate 100
cat >"$tmp/c.yaml" <<CONFIG
model: {base_filters: 16, filters: [16, 32], blocks: [1, 2]}
data:
  train: {path: $tmp/ecgs, part: [0, 0.7]}
  valid: {path: $tmp/ecgs, part: [0.7, 1]}
  balance: true
augment: {ops: [scaling, time_warp, wander, noise, shift, crop, cutout, lead_drop], n: 3, magnitude: 0.7, probability: 0.8}
train: {batch_size: 15, epochs: 6, save_every: 2, mixup: 0.3}
CONFIG
one_lead=(--set 'model.in_leads=[I]' --set 'augment.ops=[noise, shift]' --set augment.n=1 --set augment.lead=true)
pretrain() { "$einthoven" -q pretrain "$tmp/c.yaml" --out "$tmp/$1" "${@:2}"; } # RUN OPTION...
same() {                                                                        # RUN RUN TEXT
    status=0
    cmp -s "$tmp/$1/checkpoints/last/model.safetensors" "$tmp/$2/checkpoints/last/model.safetensors" || status=1
    verdict $status "$3"
}
differ() {
    status=0
    cmp -s "$tmp/$1/checkpoints/last/model.safetensors" "$tmp/$2/checkpoints/last/model.safetensors" && status=1
    verdict $status "$3"
}
lines() { sed 's/,"ecg_per_s":[^}]*//' "$tmp/$1/metrics.jsonl"; }

# Stopped or killed after some more steps, four times, then left to finish.
interrupted() { # RUN OPTION...
    local pid code stopped=0
    for steps in 3 11 16 25; do
        "$einthoven" -q pretrain "$tmp/c.yaml" --out "$tmp/$1" --resume "${@:2}" 2>>"$tmp/log" &
        pid=$!
        for _ in $(seq 500); do
            [ -e "$tmp/$1/metrics.jsonl" ] && [ "$(wc -l <"$tmp/$1/metrics.jsonl")" -ge $steps ] && break
            sleep 0.01
        done
        kill -$((steps % 2 ? 9 : 15)) $pid 2>/dev/null || true
        code=0
        wait $pid 2>/dev/null || code=$?
        if [ $code -ne 0 ]; then stopped=$((stopped + 1)); fi
    done
    status=0
    [ $stopped -ge 2 ] || status=1
    verdict $status "$1: ended early $stopped times of 4"
    pretrain "$1" --resume "${@:2}"
}

for kind in many one; do
    options=()
    [ $kind = one ] && options=("${one_lead[@]}")
    pretrain $kind "${options[@]}"
    pretrain $kind-4 "${options[@]}" --set data.workers=4
    same $kind $kind-4 "$kind: four workers give the same weights"
    interrupted $kind-stopped "${options[@]}" --set data.workers=2
    same $kind $kind-stopped "$kind: stopped and resumed: the same weights"
    status=0
    [ "$(lines $kind)" = "$(lines $kind-stopped)" ] || status=1
    verdict $status "$kind: and the same metrics.jsonl"
done

# A stop in the middle of an epoch, at a known step: six batches an epoch, saved after the fourth.
pretrain steps --set train.steps=4
for keys in augment.probability=0 train.mixup=0 data.balance=false; do
    pretrain "without-$keys" --set train.steps=4 --set $keys
    differ steps "without-$keys" "with $keys other weights"
done

# At a learning rate of 0 nothing changes but what validation reads.
pretrain still --set optim.lr=0 --set optim.weight_decay=0
pretrain plain --set optim.lr=0 --set optim.weight_decay=0 --set augment.ops=null --set train.mixup=0 --set data.balance=false
status=0
[ "$(lines still | grep '"valid"')" = "$(lines plain | grep '"valid"')" ] || status=1
[ "$(lines still | grep -c '"valid"')" = 6 ] || status=1
[ "$(lines still | grep '"train"')" != "$(lines plain | grep '"train"')" ] || status=1
verdict $status "validation is not augmented, training is"

refuse() { # TEXT OPTION...
    expect 78 "$1" "$einthoven" -q pretrain "$tmp/c.yaml" --out "$tmp/refused" "${@:2}"
    if [ -e "$tmp/refused" ]; then bad "$1: a run folder is left"; fi
}
refuse "unknown operation time_wrap; did you mean time_warp?" --set 'augment.ops=[time_wrap]'
refuse "noise stands there twice" --set 'augment.ops=[noise, shift, noise]'
refuse "augment.n is 3, and augment.ops names 1" --set augment.ops=noise
refuse "augment.magnitude" --set augment.magnitude=1.5
refuse "model.in_leads to [I]" --set augment.lead=true
refuse "lead_drop needs two leads" --set 'model.in_leads=[II]' --set 'augment.ops=[lead_drop]' --set augment.n=1
refuse "scaling gives each lead a factor" --set data.normalize=lead
refuse "powerline, up to 60 Hz" --set 'augment.ops=[powerline]' --set augment.n=1
refuse "train.mixup mixes neighbours" --set data.shuffle=false --set data.balance=false
refuse "data.balance draws records by chance" --set data.shuffle=false --set train.mixup=0
refuse "data.balance: it balances labels" --set loss.name=mse
expect 0 "" "$einthoven" plan configs/pretrain_1lead.yaml --set data.train=null \
    --set data.valid=null --set train.early_stop=0
finish
