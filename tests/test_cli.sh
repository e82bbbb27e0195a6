#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The command line from outside: help, exit codes, messages that name the mistake, nothing left behind.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/support/shell.inc
. tests/support/shell.inc

for command in import synth inspect pretrain finetune study plan evaluate predict embed convert selftest bench doctor; do
    expect 0 "usage: einthoven $command" "$einthoven" $command --help
done
expect 0 "commands:" "$einthoven" --help
expect 0 "einthoven 0" "$einthoven" --version
expect 2 "did you mean pretrain" "$einthoven" pretrian
expect 2 "did you mean --records" "$einthoven" synth --recrods 3 --out "$tmp/x"
expect 2 "--out DIR is missing" "$einthoven" synth --records 3

data=$tmp/ecgs
"$einthoven" -q synth --out "$data" --records 60 --seed 3 --rate 100
expect 73 "" "$einthoven" synth --out "$data" --records 3
expect 0 '"records": 60' "$einthoven" inspect "$data" --json
expect 66 "no such file" "$einthoven" inspect "$tmp/nowhere"
expect 66 "" "$einthoven" inspect "$tmp"

small=(--set model.base_filters=8 --set 'model.filters=[16]' --set 'model.blocks=[1]' --set train.steps=4 --set train.batch_size=8)
touch "$tmp/c.yaml"
train() { "$einthoven" -q pretrain "$tmp/c.yaml" "${small[@]}" --set data.train="$data" "$@"; }
expect 66 "data.train" "$einthoven" pretrain "$tmp/c.yaml" --set data.train="$tmp/nowhere" --out "$tmp/r"
expect 78 "data.train is not set" "$einthoven" pretrain "$tmp/c.yaml" --out "$tmp/r"
expect 78 "did you mean optim.lr" train --set optim.lrr=1 --out "$tmp/r"
expect 78 "adamw" train --set optim.name=adamv --out "$tmp/r"
expect 78 "lead" train --set 'model.in_leads=[I, V9]' --out "$tmp/r"
expect 78 "model.length" train --set model.length=777 --out "$tmp/r"
expect 78 "did you mean lbbb" train --set 'data.labels=[lbb]' --out "$tmp/r"
expect 78 "fold" train --set "data.train={path: $data, fold: 77}" --out "$tmp/r"
expect 78 "part" train --set "data.train={path: $data, part: [0.5, 0.5]}" --out "$tmp/r"
expect 65 "patients" train --set data.valid="$data" --out "$tmp/r"
expect 1 "cuda" train --set train.device=cuda --out "$tmp/r"
expect 66 "nowhere.yaml" "$einthoven" pretrain "$tmp/nowhere.yaml" --out "$tmp/r"
printf 'optim: {lr: 1e-3\n' >"$tmp/broken.yaml"
expect 78 "broken.yaml" "$einthoven" pretrain "$tmp/broken.yaml" --out "$tmp/r"
printf 'optim:\n  lr: fast\n' >"$tmp/broken.yaml"
expect 78 "broken.yaml:2" "$einthoven" pretrain "$tmp/broken.yaml" --out "$tmp/r"
[ ! -e "$tmp/r" ]; verdict $? "a run that could not start leaves no folder"
expect 73 "" train --out "$tmp/c.yaml"

expect 0 "" train --out "$tmp/r"
expect 73 "--resume" train --out "$tmp/r"
expect 0 "finished" "$einthoven" pretrain "$tmp/c.yaml" "${small[@]}" --set data.train="$data" --out "$tmp/r" --resume
expect 78 "lr: 0.5" train --set optim.lr=0.5 --out "$tmp/r" --resume
[ "$(grep -c '"kind":"train"' "$tmp/r/metrics.jsonl")" -eq 4 ]; verdict $? "metrics.jsonl has a line a step"
expect 0 "Net1D weights" "$einthoven" inspect "$tmp/r/checkpoints/last"
expect 0 "last_train" "$einthoven" inspect "$tmp/r"
expect 0 "" "$einthoven" predict --weights "$tmp/r" --data "$data" --out "$tmp/p.csv"
head -1 "$tmp/p.csv" | grep -q '^record_id,'; verdict $? "predict writes a header"
[ "$(wc -l <"$tmp/p.csv")" -eq 61 ]; verdict $? "predict writes a row a record"
expect 0 "" "$einthoven" predict --weights "$tmp/r" --data "$data" --out "$tmp/p.h5"
expect 0 "AUROC" "$einthoven" evaluate --weights "$tmp/r" --data "$data" --out "$tmp/e1"
expect 0 "AUROC" "$einthoven" evaluate --weights "$tmp/r" --data "$data" --predictions "$tmp/p.h5" --out "$tmp/e2"
cmp -s "$tmp/e1/metrics.json" "$tmp/e2/metrics.json"; verdict $? "evaluate --predictions gives the same metrics"
expect 0 "12 leads" "$einthoven" convert "$tmp/r" "$tmp/a.pth"
expect 0 "12 leads" "$einthoven" convert "$tmp/a.pth" "$tmp/a.safetensors"
status=0; cmp -s "$tmp/a.safetensors" "$tmp/r/checkpoints/best/model.safetensors" || status=1
verdict $status "weights through a .pth keep every byte"
expect 2 "must end in .pth" "$einthoven" convert "$tmp/a.pth" "$tmp/a.onnx"
expect 66 "nowhere" "$einthoven" convert "$tmp/nowhere" "$tmp/b.pth"
head -c 5000 "$tmp/a.pth" >"$tmp/cut.pth"
expect 65 "cut.pth: a zip archive without a directory" "$einthoven" predict --weights "$tmp/cut.pth" --data "$data" --out "$tmp/p.csv"
expect 73 "" "$einthoven" convert "$tmp/a.pth" "$tmp/no/folder.pth"
expect 78 "head.labels or head.targets" "$einthoven" finetune "$tmp/c.yaml" --weights "$tmp/r" --set data.train="$data" --out "$tmp/f"
expect 0 "" "$einthoven" -q finetune "$tmp/c.yaml" --weights "$tmp/r" --set data.train="$data" --set 'head.targets=[age]' \
    --set train.steps=4 --set train.batch_size=8 --out "$tmp/f"
expect 65 "" "$einthoven" evaluate --weights "$tmp/c.yaml" --data "$data" --out "$tmp/e3"
head -c 5000 "$tmp/r/checkpoints/last/model.safetensors" >"$tmp/cut.safetensors"
expect 65 "cut.safetensors" "$einthoven" predict --weights "$tmp/cut.safetensors" --data "$data" --out "$tmp/q.csv"
expect 78 "did you mean lbbb" "$einthoven" evaluate --weights "$tmp/r" --data "$data" --labels lbbc --out "$tmp/e3"
shard=$(ls "$data"/*.h5)
mkdir "$tmp/cutset"
head -c 30000 "$shard" >"$tmp/cutset/a.h5"
expect 65 "a.h5" "$einthoven" inspect "$tmp/cutset"

# bench: every part on a small network, as text and as JSON whose shares are numbers above 0.
quick=("$einthoven" bench --quick --model ptbxl_superclass --batch 2 --threads 2)
expect 2 "did you mean published" "$einthoven" bench --model publishd
expect 2 "unknown precision" "$einthoven" bench --precision fp8
expect 66 "" "${quick[@]}" --loader --data "$tmp/nowhere"
expect 0 "weight grad." "${quick[@]}" --ops
expect 0 "whole steps" "${quick[@]}" --train --batch-norm
expect 0 "loader: 64 records of 12 x 1000 (simulated)" env TMPDIR="$tmp" "${quick[@]}" --loader
[ -z "$(ls -d "$tmp"/einthoven-bench* 2>/dev/null)" ]; verdict $? "bench removes its simulated records"
expect 0 "" "${quick[@]}" --ops --train --loader --data "$data" --json
cp "$tmp/stdout" "$tmp/bench.json"
shares=$(awk -F'[:,]' '/"(percent_of_|ecg_per_s|records_per_s|gb_s)/ { n++; bad += !($2 + 0 > 0 && $2 + 0 < 1e9) }
    END { print n, bad }' "$tmp/bench.json")
[ "${shares% *}" -gt 20 ] && [ "${shares#* }" -eq 0 ]; verdict $? "bench --json: shares and not one of them bad: $shares"
if command -v python3 >/dev/null; then
    code=0
    python3 -c 'import json, sys
d = json.load(sys.stdin)
t = d["train"][0]
assert len(d["train"]) == 1 and t["model"] == "ptbxl_superclass" and t["batch"] == 2 and t["precision"] == "fp32"
assert t["training"]["ecg_per_s"] > 0 and t["training_peak_rss_mib"] > 1
assert d["ops"]["fp32"]["convolutions"]["mean"]["all"]["all"]["gflops"] > 0
assert d["loader"]["records"] == 60' <"$tmp/bench.json" || code=$?
    verdict $code "bench --json parses and has its parts"
    cp README.md "$tmp/README.md"
    expect 0 "" python3 scripts/bench_readme.py --force --bench "$tmp/bench.json" --readme "$tmp/README.md"
    expect 0 "" python3 scripts/bench_readme.py --force --bench "$tmp/bench.json" --readme "$tmp/README.md"
    [ "$(grep -c '^| ptbxl_superclass, fp32, batch 2 ' "$tmp/README.md")" -eq 1 ]
    verdict $? "bench_readme.py writes its tables once"
else
    skip "bench --json parses (no python3)"
fi

# Only training catches signals, to save its state: everything else ends at once.
"$einthoven" -q synth --out "$tmp/long" --records 1000000 --rate 100 &
pid=$!
sleep 0.5
kill -TERM $pid
for _ in $(seq 100); do kill -0 $pid 2>/dev/null || break; sleep 0.05; done
kill -9 $pid 2>/dev/null || true
code=0
wait $pid 2>/dev/null || code=$?
[ $code -eq 143 ]; verdict $? "SIGTERM ends synth at once: $code"
finish
