#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Networks and recipes drawn at random train the same bits on 1, 2, 3 and 4 threads, at every SIMD level of this processor,
# and predict the same bits whatever the batch. SEED=N draws others.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/support/shell.inc
. tests/support/shell.inc

RANDOM=${SEED:-1}
configs=16

"$einthoven" -q synth --out "$tmp/ecgs" --records 40 --seed 7 --rate 100
touch "$tmp/c.yaml"

of() { # VALUE...: one of them
    shift $((RANDOM % $#))
    echo "$1"
}
# Channels are multiples of the group, so that every group is whole.
draw() {
    local group base filters blocks stages
    group=$(of 1 3 4 8 16)
    base=$((group * (1 + RANDOM % 3)))
    filters=$((base + group * (RANDOM % 3)))
    blocks=$((1 + RANDOM % 2))
    for ((stages = RANDOM % 3; stages > 0; stages--)); do
        filters="$filters, $((${filters##*, } + group * (RANDOM % 3)))"
        blocks="$blocks, $((1 + RANDOM % 2))"
    done
    sets=(--set model.group_width="$group" --set model.base_filters="$base" --set model.filters="[$filters]"
        --set model.blocks="[$blocks]" --set model.kernel_size=$((1 + RANDOM % 17)) --set model.stride="$(of 1 2 2 3)"
        --set model.batch_norm="$(of true false)" --set model.dropout="$(of 0 0.3)" --set model.drop_path="$(of 0 0.3)"
        --set model.in_leads="$(of '[I]' '[II, V5]' '[I, II, III, aVR, aVL, aVF, V1, V2, V3, V4, V5, V6]')"
        --set data.normalize="$(of record lead none)" --set loss.name="$(of bce hill focal asl mse huber)"
        --set optim.name="$(of adam adamw sgd)" --set schedule.name="$(of constant cosine onecycle)"
        --set train.batch_size=$((3 + RANDOM % 9)) --set train.accumulate=$((1 + RANDOM % 3))
        --set train.clip_norm="$(of 0 1)" --set train.seed=$RANDOM)
}
# Which weights and losses; nothing when it does not train.
train() { # LEVEL THREADS
    rm -rf "$tmp/run"
    EINTHOVEN_CPU=$1 "$einthoven" -q pretrain "$tmp/c.yaml" --out "$tmp/run" --set data.train="$tmp/ecgs" --set train.steps=3 \
        "${sets[@]}" --set train.threads="$2" --set data.workers="$2" 2>"$tmp/log" || return 0
    { sed 's/,"ecg_per_s":[^}]*//' "$tmp/run/metrics.jsonl"; cat "$tmp/run/checkpoints/last/model.safetensors"; } | cksum
}
predict() { # LEVEL THREADS BATCH
    EINTHOVEN_CPU=$1 "$einthoven" -q predict --weights "$tmp/run" --data "$tmp/ecgs" --out "$tmp/p$3.csv" --threads "$2" \
        --batch "$3" 2>"$tmp/log" && cksum <"$tmp/p$3.csv"
}

levels=()
for level in avx512 avx2 portable; do
    if EINTHOVEN_CPU=$level "$einthoven" -q selftest >"$tmp/log" 2>&1; then
        levels+=("$level")
    elif grep -q 'does not have it' "$tmp/log"; then
        echo "no $level on this processor"
    else
        tail "$tmp/log"; bad "selftest at $level"
    fi
done

for ((i = 1; i <= configs; i++)); do
    draw
    for level in "${levels[@]}"; do
        one=$(train "$level" 1)
        status=0; [ -n "$one" ] || status=1
        for threads in 2 3 4; do
            [ "$(train "$level" $threads)" = "$one" ] || { status=1; echo "$threads threads differ"; }
        done
        one=$(predict "$level" 1 1) || status=1
        [ "$(predict "$level" 4 7)" = "$one" ] || { status=1; echo "predict differs"; }
        [ $status -eq 0 ] || { printf '%s ' "${sets[@]}"; echo; tail -n 3 "$tmp/log"; }
        verdict $status "network $i, $level"
    done
done
finish
