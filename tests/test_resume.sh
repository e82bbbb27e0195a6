#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A run that is killed or stopped and resumed ends with the uninterrupted run's weights, bit for bit; so does one on another
# number of threads, and, but for rounding, nothing else may differ.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/support/shell.inc
. tests/support/shell.inc

"$einthoven" -q synth --out "$tmp/ecgs" --records 150 --seed 5 --rate 100
cat >"$tmp/c.yaml" <<CONFIG
model: {base_filters: 16, filters: [16, 32], blocks: [1, 2], batch_norm: true, dropout: 0.2, drop_path: 0.1}
data:
  train: {path: $tmp/ecgs, part: [0, 0.7]}
  valid: {path: $tmp/ecgs, part: [0.7, 1]}
optim: {name: adamw, lr: 1e-3}
schedule: {name: onecycle}
train: {batch_size: 16, epochs: 3, save_every: 2, eval_every: 5, clip_norm: 1}
CONFIG
# In the background $! must be the program itself, so that a signal reaches it: hence exec.
launch() {
    local out=$1
    shift
    exec "$einthoven" -q pretrain "$tmp/c.yaml" --out "$out" "$@" 2>>"$tmp/log"
}
run() { (launch "$@"); }
same() { cmp -s "$tmp/whole/checkpoints/last/model.safetensors" "$1/checkpoints/last/model.safetensors"; }
# metrics.jsonl without the timing
lines() { sed 's/,"ecg_per_s":[^}]*//' "$1/metrics.jsonl"; }

run "$tmp/whole"
for threads in 1 2 4; do
    run "$tmp/t$threads" --set train.threads=$threads
    status=0; same "$tmp/t$threads" || status=1
    verdict $status "$threads threads give the same weights"
done

# Killed at moments that differ, three times a run, then left to finish.
for round in 1 2 3; do
    out=$tmp/k$round
    for delay in 0.15 0.3 0.5; do
        launch "$out" --resume &
        pid=$!
        sleep "$(echo "$delay $round" | awk '{print $1 + 0.07 * $2}')"
        kill -9 $pid 2>/dev/null || true
        wait $pid 2>/dev/null || true
    done
    run "$out" --resume
    status=0; same "$out" || status=1
    verdict $status "killed three times and resumed (round $round): the same weights"
    status=0; [ "$(lines "$out")" = "$(lines "$tmp/whole")" ] || status=1
    verdict $status "and the same metrics.jsonl"
done

# Asked to stop: saves where it is, exit code 75.
launch "$tmp/s" --resume &
pid=$!
for _ in $(seq 100); do [ -s "$tmp/s/metrics.jsonl" ] && break; sleep 0.05; done
kill -TERM $pid 2>/dev/null || true
code=0
wait $pid || code=$?
status=0; { [ $code -eq 75 ] || [ $code -eq 0 ]; } || status=1
verdict $status "SIGTERM ends with 75 (or 0 when it was done already): $code"
run "$tmp/s" --resume
status=0; same "$tmp/s" || status=1
verdict $status "stopped by SIGTERM and resumed: the same weights"

# Two programs never write to one run.
launch "$tmp/l" --set train.epochs=200 &
pid=$!
for _ in $(seq 100); do [ -e "$tmp/l/metrics.jsonl" ] && break; sleep 0.05; done
expect 73 "another process" "$einthoven" -q pretrain "$tmp/c.yaml" --out "$tmp/l" --set train.epochs=200 --resume
kill -9 $pid
wait $pid 2>/dev/null || true
finish
