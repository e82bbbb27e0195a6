#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A linear probe on kept embeddings ends with the weights of the one without them, and runs of every way to fine-tune that are
# killed and resumed end with the uninterrupted ones', bit for bit.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/support/shell.inc
. tests/support/shell.inc

"$einthoven" -q synth --out "$tmp/ecgs" --records 150 --seed 5 --rate 100 --length 4
cat >"$tmp/pre.yaml" <<CONFIG
model: {base_filters: 16, filters: [16, 32], blocks: [1, 2], batch_norm: true}
data: {train: {path: $tmp/ecgs, part: [0, 0.7]}}
train: {batch_size: 16, epochs: 2}
CONFIG
cat >"$tmp/c.yaml" <<CONFIG
data:
  train: {path: $tmp/ecgs, part: [0, 0.7]}
  valid: {path: $tmp/ecgs, part: [0.7, 1]}
head: {labels: [sinus_rhythm, pvc]}
optim: {lr: 1e-2}
schedule: {name: onecycle}
train: {batch_size: 16, accumulate: 2, epochs: 4, save_every: 2, eval_every: 5, clip_norm: 1}
CONFIG
"$einthoven" -q pretrain "$tmp/pre.yaml" --out "$tmp/pre"

# In the background $! must be the program itself, so that a signal reaches it: hence exec.
launch() {
    local out=$1
    shift
    exec "$einthoven" finetune "$tmp/c.yaml" --weights "$tmp/pre" --out "$out" "$@" 2>>"$out.log"
}
run() { (launch "$@"); }
same() { cmp -s "$1/checkpoints/last/model.safetensors" "$2/checkpoints/last/model.safetensors"; }
# metrics.jsonl without the timing
lines() { sed 's/,"ecg_per_s":[^}]*//' "$1/metrics.jsonl"; }
kept() { grep -q "embeddings of .* kept in memory" "$1.log"; }
both() { # NAME KEY=VALUE...: with embeddings and without
    local name=$1 sets=() status=0 word
    shift
    for word in "$@"; do sets+=(--set "$word"); done
    run "$tmp/k-$name" --set head.freeze=true "${sets[@]}"
    run "$tmp/u-$name" --set head.freeze=true --set head.cache=false "${sets[@]}"
    kept "$tmp/k-$name" || status=1
    if kept "$tmp/u-$name" || ! grep -q "head.cache is false" "$tmp/u-$name.log"; then status=1; fi
    verdict $status "$name: embeddings are kept, or the log says why not"
    status=0; same "$tmp/k-$name" "$tmp/u-$name" || status=1
    verdict $status "and the weights are the same"
    status=0; [ "$(lines "$tmp/k-$name")" = "$(lines "$tmp/u-$name")" ] || status=1
    verdict $status "and metrics.jsonl"
}
both plain
both sgd optim.name=sgd data.shuffle=false data.workers=3 train.early_stop=2
both target 'head.labels=null' 'head.targets=[age]' train.accumulate=1
both bf16 train.precision=bf16
run "$tmp/d" --set head.freeze=true --set model.dropout=0.1
status=0; if kept "$tmp/d" || ! grep -q "model.dropout changes them" "$tmp/d.log"; then status=1; fi
verdict $status "with dropout none are kept, and the log says so"

# Killed as soon as there is a checkpoint, then left to finish.
resumes() { # NAME KEY=VALUE...
    local name=$1 sets=() status=0 word pid
    shift
    for word in "$@"; do sets+=(--set "$word"); done
    run "$tmp/w-$name" "${sets[@]}"
    launch "$tmp/r-$name" "${sets[@]}" &
    pid=$!
    for _ in $(seq 600); do [ -e "$tmp/r-$name/checkpoints/last" ] && break; sleep 0.01; done
    kill -9 $pid 2>/dev/null || true
    wait $pid 2>/dev/null || true
    run "$tmp/r-$name" --resume "${sets[@]}"
    grep -q "resuming at step" "$tmp/r-$name.log" || status=1
    same "$tmp/w-$name" "$tmp/r-$name" || status=1
    cmp -s "$tmp/w-$name/checkpoints/last/state.safetensors" "$tmp/r-$name/checkpoints/last/state.safetensors" || status=1
    verdict $status "$name: killed and resumed, the same weights and state"
    status=0; [ "$(lines "$tmp/w-$name")" = "$(lines "$tmp/r-$name")" ] || status=1
    verdict $status "and the same metrics.jsonl"
}
noise=(model.dropout=0.1 model.drop_path=0.1)
resumes probe head.freeze=true train.epochs=30
resumes lpft finetune.probe_epochs=2 "${noise[@]}"
resumes unfreeze finetune.unfreeze_epochs=1 "${noise[@]}"
resumes ema train.ema=0.9 finetune.unfreeze_epochs=1 "${noise[@]}"
resumes factors 'optim.stage_factors=[0.01, 0.1, 1]' finetune.freeze_norm=true "${noise[@]}"
resumes all finetune.init=random finetune.probe_epochs=1 finetune.unfreeze_epochs=1 train.ema=0.99 \
    'optim.stage_factors=[0.1, 0.5, 1]' "${noise[@]}"

# Killed in the preview: nothing is lost but that.
mapfile -t sets < <(printf -- '--set\n%s\n' finetune.probe_epochs=300 train.epochs=1)
run "$tmp/preview" "${sets[@]}"
launch "$tmp/killed" "${sets[@]}" &
pid=$!
for _ in $(seq 600); do grep -qs "of 300 of the head alone" "$tmp/killed.log" && break; sleep 0.01; done
kill -TERM $pid 2>/dev/null || true
code=0; wait $pid || code=$?
status=0; { [ $code -eq 75 ] && [ ! -e "$tmp/killed/checkpoints/last" ]; } || status=1
verdict $status "stopped in the preview: exit $code, no checkpoint"
run "$tmp/killed" --resume "${sets[@]}"
status=0; same "$tmp/preview" "$tmp/killed" || status=1
verdict $status "and resumed: the same weights"

refused() { # TEXT KEY=VALUE...
    local text=$1 sets=() word
    shift
    for word in "$@"; do sets+=(--set "$word"); done
    expect 78 "$text" "$einthoven" -q finetune "$tmp/c.yaml" --weights "$tmp/pre" --out "$tmp/x" "${sets[@]}"
}
refused "list of 3 numbers" 'optim.stage_factors=[1, 2]'
refused "number 2 must be" 'optim.stage_factors=[1, x, 2]'
refused "nothing is ever unfrozen" head.freeze=true finetune.unfreeze_epochs=1
refused "trained anyway" head.freeze=true finetune.probe_epochs=1
refused "12 leads (I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6) and model.in_leads names 1 (I)" 'model.in_leads=[I]'
refused "has no lead X" 'model.in_leads=[I, X]' finetune.leads=select
refused "train.ema" train.ema=1
refused "finetune.init" finetune.init=rndom

# plan counts what the run will hold; an average is a copy of the weights.
counted() { "$einthoven" -q plan "$tmp/c.yaml" --weights "$tmp/pre" --no-time "$@" >"$tmp/plan"; }
counted
status=0; if grep -qE "^  (average|embeddings):" "$tmp/plan"; then status=1; fi
verdict $status "plan of full fine-tuning has neither average nor embeddings"
counted --set head.freeze=true
status=0; grep -q "^  embeddings:" "$tmp/plan" || status=1
verdict $status "plan of a probe counts embeddings"
counted --set train.ema=0.9 --set finetune.probe_epochs=1
status=0; { grep -q "^  embeddings:" "$tmp/plan" && grep -q "^  average:" "$tmp/plan"; } || status=1
verdict $status "plan of LP-FT with an average counts both"
finish
