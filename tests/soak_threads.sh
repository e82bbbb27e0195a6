#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Networks and recipes drawn at random train the same bits on 1, 2, 3 and 4 threads, at every SIMD level of this processor,
# and predict the same bits whatever the batch. SEED=N draws others.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/support/shell.inc
. tests/support/shell.inc

draw_from "${SEED:-1}"
configs=16

"$einthoven" -q synth --out "$tmp/ecgs" --records 40 --seed 7 --rate 100
touch "$tmp/c.yaml"

# Any key of the network or the recipe. Channels are multiples of the group, so that every group is whole, and 2 or more, so
# that squeeze-and-excitation keeps one.
network() {
    local group base filters=() blocks=() last step n stages
    draw group 1 3 4 8 16
    draw_below base 3
    base=$((group * (2 + base)))
    last=$base
    draw stages 1 2 3
    for ((; stages > 0; stages--)); do
        draw step 0 1 2
        draw n 1 2
        last=$((last + group * step))
        filters+=("$last") blocks+=("$n")
    done
    sets=()
    set_to model.group_width "$group"
    set_to model.base_filters "$base"
    set_to model.filters "[$(IFS=,; echo "${filters[*]}")]"
    set_to model.blocks "[$(IFS=,; echo "${blocks[*]}")]"
    set_to model.kernel_size {1..17}
    set_to model.stride 1 2 2 3
    set_to model.batch_norm true false
    set_to model.dropout 0 0.3
    set_to model.drop_path 0 0.3
    set_to model.in_leads '[I]' '[II, V5]' '[I, II, III, aVR, aVL, aVF, V1, V2, V3, V4, V5, V6]'
    set_to data.normalize record lead none
    set_to loss.name bce hill focal asl mse huber
    set_to optim.name adam adamw sgd
    set_to schedule.name constant cosine onecycle
    set_to train.batch_size {3..11}
    set_to train.accumulate 1 2 3
    set_to train.clip_norm 0 1
    set_to train.seed {1..1000}
}
set_to() { # KEY VALUE...
    local value
    draw value "${@:2}"
    sets+=(--set "$1=$value")
}
# A sum over weights and losses; nothing when it does not train.
train() { # LEVEL THREADS
    rm -rf "$tmp/run"
    EINTHOVEN_CPU=$1 "$einthoven" -q pretrain "$tmp/c.yaml" --out "$tmp/run" --set data.train="$tmp/ecgs" --set train.steps=3 \
        "${sets[@]}" --set train.threads="$2" --set data.workers="$2" 2>>"$tmp/log" || return 0
    { sed 's/,"ecg_per_s":[^}]*//' "$tmp/run/metrics.jsonl"; cat "$tmp/run/checkpoints/last/model.safetensors"; } | cksum
}
predict() { # LEVEL THREADS BATCH
    EINTHOVEN_CPU=$1 "$einthoven" -q predict --weights "$tmp/run" --data "$tmp/ecgs" --out "$tmp/p$3.csv" --threads "$2" \
        --batch "$3" 2>>"$tmp/log" && cksum <"$tmp/p$3.csv"
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
    network
    for level in "${levels[@]}"; do
        : >"$tmp/log"
        one=$(train "$level" 1)
        status=0; [ -n "$one" ] || status=1
        for threads in 2 3 4; do
            [ "$(train "$level" $threads)" = "$one" ] || { status=1; echo "$threads threads differ"; }
        done
        one=$(predict "$level" 1 1) || status=1
        [ "$(predict "$level" 4 7)" = "$one" ] || { status=1; echo "predict differs"; }
        [ $status -eq 0 ] || { printf '%s ' "${sets[@]}"; echo; head -n 3 "$tmp/log"; }
        verdict $status "network $i, $level"
    done
done
finish
