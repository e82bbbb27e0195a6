#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Heads on the command line: a network of every kind of head from training to its figures, the same weights after a kill, in
# parts and whole, on other devices; and what is said of heads that can't be.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/support/shell.inc
. tests/support/shell.inc
plugin=$PWD/build/emu/libeinthoven_cuda.so

ecgs=$tmp/ecgs
"$einthoven" -q synth --out "$ecgs" --records 200 --seed 5 --rate 100 --length 3 --outcomes
cat >"$tmp/plain.yaml" <<CONFIG
model: {base_filters: 16, filters: [16, 32], blocks: [1, 1]}
data:
  train: {path: $ecgs, part: [0, 0.7]}
  valid: {path: $ecgs, part: [0.7, 1]}
train: {batch_size: 40, steps: 8, eval_every: 4, save_every: 2}
CONFIG
cat "$tmp/plain.yaml" - >"$tmp/all.yaml" <<'CONFIG'
heads:
  - {name: rhythm, labels: [sinus_rhythm, sinus_bradycardia, sinus_tachycardia, atrial_fibrillation, atrial_flutter], loss: softmax}
  - {name: findings, labels: [lbbb, rbbb, low_lvef], loss: {name: hill, positive: focal_margin, pos_weight: inverse}}
  - {name: rate, labels: [sinus_bradycardia, sinus_tachycardia], loss: ordinal}
  - {name: grade, targets: [lvef], loss: {name: ordinal, bins: [45, 60]}}
  - {targets: [age], loss: huber, weight: 0.5}
  - {name: shape, targets: [heart_rate, qrs_ms], loss: gaussian}
  - {name: death, event: death, time: follow_up_days, loss: cox}
  - {name: years, event: death, time: follow_up_days, loss: {name: hazard, bins: [365, 1095, 1825]}}
CONFIG
pretrain() { # CONFIG OUT KEY=VALUE...
    local sets=() word
    for word in "${@:3}"; do sets+=(--set "$word"); done
    "$einthoven" pretrain "$tmp/$1.yaml" --out "$tmp/$2" "${sets[@]}" 2>"$tmp/$2.log"
}
losses() { grep -oE '"loss":[^,]*' "$tmp/$1/metrics.jsonl" | cut -d: -f2 >"$tmp/$1.losses"; }
# The largest difference of the losses of two runs, as a share where they are above 1 (NaN fails).
close_to() { # WHAT BOUND OUT OUT
    local worst
    losses "$3" && losses "$4"
    worst=$(paste -d' ' "$tmp/$3.losses" "$tmp/$4.losses" | awk '
        $1 !~ /^-?[0-9.]+(e[-+]?[0-9]+)?$/ || $2 !~ /^-?[0-9.]+(e[-+]?[0-9]+)?$/ { bad = 1; exit }
        { d = $1 - $2; s = $2; if (d < 0) d = -d; if (s < 0) s = -s; if (s < 1) s = 1; if (d / s > w) w = d / s }
        END { print bad || !NR ? "nothing" : w + 0 }')
    if awk -v w="$worst" -v b="$2" 'BEGIN { exit !(w ~ /^[0-9.e+-]+$/ && w + 0 <= b + 0) }'; then
        ok "$1: off by $worst at most (bound $2)"
    else
        bad "$1: off by $worst (bound $2)"
    fi
}
same() { cmp -s "$tmp/$1/checkpoints/last/$3" "$tmp/$2/checkpoints/last/$3"; }

run() { "$einthoven" -q "$@"; }

# ---------------------------------------------------------------- training, and what comes of it

if pretrain all m; then ok "a network of eight heads"; else
    cat "$tmp/m.log"
    bad "a network of eight heads"
    finish
    exit 1
fi
grep -qE "head findings: lbbb weighs [0-9.]+" "$tmp/m.log"; verdict $? "pos_weight inverse says what it gives"
run predict --weights "$tmp/m" --data "$ecgs" --out "$tmp/p.csv"
run predict --weights "$tmp/m" --data "$ecgs" --out "$tmp/p.h5"
columns=record_id,sinus_rhythm,sinus_bradycardia,sinus_tachycardia,atrial_fibrillation,atrial_flutter,lbbb,rbbb,low_lvef
columns+=",rate: sinus_bradycardia,rate: sinus_tachycardia,grade: lvef<45,grade: 45<=lvef<60,grade: lvef>=60,age"
columns+=",heart_rate,qrs_ms,heart_rate: sd,qrs_ms: sd,death,years: to 365,years: to 1095,years: to 1825"
status=0; [ "$(head -n 1 "$tmp/p.csv")" = "$columns" ] || status=1
verdict $status "predict: a column for what each head says, each by a name of its own"
status=0; awk -F, 'NR > 1 {
    n++
    for (i = 2; i <= 23; i++) if ($i !~ /^-?[0-9.]+(e[-+]?[0-9]+)?$/) exit 1
    for (i = 2; i <= 6; i++) rhythm += $i
    p = $10 + $11; q = $12 + $13 + $14
    if (p < 0.99999 || p > 1.00001 || q < 0.99999 || q > 1.00001 || $17 <= 0 || $18 <= 0) exit 1
    if ($21 > $22 || $22 > $23 || $21 <= 0 || $23 >= 1) exit 1
} END { if (n != 200 || rhythm < 199.999 || rhythm > 200.001) exit 1 }' "$tmp/p.csv" || status=1
verdict $status "200 rows: probabilities of classes add up to 1, those of time rise, standard deviations are above 0"
if /usr/bin/python3 -c 'import h5py, numpy' 2>/dev/null; then
    /usr/bin/python3 - "$tmp/p.h5" "$tmp/p.csv" <<'PY' && status=0 || status=1
import csv, sys
import h5py, numpy as np
with h5py.File(sys.argv[1], 'r') as f:
    z, v = f['logits'], f['values']
    rows = list(csv.reader(open(sys.argv[2])))
    assert rows[0][1:] == v.attrs['names'].split('\n')
    assert [r[0] for r in rows[1:]] == [i.decode() for i in f['record_id'][:]]
    assert np.allclose(np.array([r[1:] for r in rows[1:]], float), v[:], rtol=1e-6, atol=0)
    names = z.attrs['names'].split('\n')
    assert len(set(names)) == len(names) == z.shape[1] == 20
    e = np.exp(z[:, :5].astype(float))
    assert np.abs(e / e.sum(1, keepdims=True) - v[:, :5]).max() < 1e-6
    alive = np.cumprod(1 / (1 + np.exp(z[:, 17:20].astype(float))), axis=1)
    assert np.abs(1 - alive - v[:, -3:]).max() < 1e-6
PY
    verdict $status "predict: HDF5 has the outputs, and the values of the CSV"
else
    skip "predictions as HDF5 (needs Debian's python3-h5py)"
fi
run evaluate --weights "$tmp/m" --data "$ecgs" --out "$tmp/e" >"$tmp/e.txt"
run evaluate --weights "$tmp/m" --data "$ecgs" --predictions "$tmp/p.h5" --out "$tmp/e-file" >/dev/null
status=0; { cmp -s "$tmp/e/metrics.json" "$tmp/e-file/metrics.json" && cmp -s "$tmp/e/predictions.csv" "$tmp/e-file/predictions.csv"; } || status=1
verdict $status "evaluate: of the network or of its predictions, the same bytes"
# figures NAMES HEADER: evaluate with --labels writes these columns
figures() {
    rm -rf "$tmp/e-part"
    run evaluate --weights "$tmp/m" --data "$ecgs" --labels "$1" --out "$tmp/e-part" >/dev/null 2>"$tmp/part.log" || cat "$tmp/part.log"
    status=0; [ "$(head -n 1 "$tmp/e-part/predictions.csv")" = "record_id,$2" ] || status=1
    verdict $status "evaluate --labels $1"
}
figures death death_risk,death_event,death_time
figures age,death death_risk,death_event,death_time,age_pred,age_true
figures rbbb,lbbb rbbb_prob,rbbb_true,lbbb_prob,lbbb_true
figures shape heart_rate_pred,heart_rate_true,heart_rate_sd,qrs_ms_pred,qrs_ms_true,qrs_ms_sd
figures rate rate_called,rate_true,rate_sinus_bradycardia_prob,rate_sinus_tachycardia_prob
expect 78 "the network has no output deth; did you mean death?" run evaluate --weights "$tmp/m" --data "$ecgs" --labels deth --out "$tmp/x"

# ---------------------------------------------------------------- the same run

"$einthoven" -q pretrain "$tmp/all.yaml" --out "$tmp/r" --set train.steps=200 2>>"$tmp/log" &
pid=$!
for _ in $(seq 600); do [ -e "$tmp/r/checkpoints/last" ] && break; sleep 0.01; done
kill -9 $pid 2>/dev/null || true
wait $pid 2>/dev/null || true
run pretrain "$tmp/all.yaml" --out "$tmp/r" --resume --set train.steps=200
pretrain all whole train.steps=200
status=0; for file in model state; do same whole r $file.safetensors || status=1; done
losses whole; losses r
cmp -s "$tmp/whole.losses" "$tmp/r.losses" || status=1
verdict $status "killed and resumed: the same weights, state and losses"
pretrain all threads train.threads=1 train.steps=8
status=0; same m threads model.safetensors || status=1
verdict $status "one thread: the same weights"
pretrain all quarters train.accumulate=4
close_to "eight heads in 4 parts" 1e-6 quarters m
only_cox='heads=[{event: death, time: follow_up_days, loss: cox}]'
pretrain plain cox "$only_cox"
pretrain plain cox-4 "$only_cox" train.accumulate=4
close_to "cox alone in 4 parts" 1e-6 cox-4 cox
pretrain all ref train.device=ref train.steps=4
pretrain all four train.steps=4
close_to "device ref" 1e-4 ref four
pretrain all bf16 train.precision=bf16
close_to "bf16" 1e-2 bf16 m
if [ -e "$plugin" ] && ! is_sanitized; then
    for precision in fp32 bf16; do
        for device in cpu cuda; do
            EINTHOVEN_CUDA_LIB=$plugin pretrain all $device-$precision train.device=$device train.precision=$precision train.steps=4 train.accumulate=2
        done
    done
    close_to "device cuda, emulated" 1e-4 cuda-fp32 cpu-fp32
    close_to "device cuda, emulated, bf16" 1e-2 cuda-bf16 cpu-bf16
else
    skip "the emulated CUDA backend is not built, or a sanitizer is in the way"
fi
sed '/loss: cox/d' "$tmp/all.yaml" >"$tmp/mixed.yaml"
pretrain mixed mixed train.mixup=0.4
pretrain mixed unmixed
pretrain mixed mixed-4 train.mixup=0.4 train.accumulate=4
close_to "mixup in 4 parts" 1e-6 mixed-4 mixed
status=0; if cmp -s "$tmp/mixed.losses" <(losses unmixed; cat "$tmp/unmixed.losses"); then status=1; fi
verdict $status "mixup changes the losses"
pretrain plain small "$only_cox" train.batch_size=2 train.steps=30
grep -q '"loss":null' "$tmp/small/metrics.jsonl"; verdict $? "a batch without an event has no loss, and the run goes on"

# New heads on these weights, the backbone's features kept.
for cache in true false; do
    "$einthoven" finetune "$tmp/all.yaml" --weights "$tmp/m" --out "$tmp/f-$cache" --set head.freeze=true --set head.cache=$cache \
        --set train.accumulate=2 2>"$tmp/f.log" || cat "$tmp/f.log"
done
status=0; same f-true f-false model.safetensors || status=1
verdict $status "linear probe of eight heads: the same with kept features"
run plan "$tmp/all.yaml" --no-time >"$tmp/plan"
grep -q "^  outputs: 20" "$tmp/plan"; verdict $? "plan counts the outputs of all heads"

# ---------------------------------------------------------------- heads that can't be

# refuse CODE TEXT KEY=VALUE...: one line of error, and no run
refuse() {
    local sets=() word
    for word in "${@:3}"; do sets+=(--set "$word"); done
    expect "$1" "$2" run pretrain "$tmp/plain.yaml" --out "$tmp/x" "${sets[@]}"
    if [ "$(grep -c 'einthoven: error:' "$tmp/stderr")" -ne 1 ] || [ -e "$tmp/x" ]; then bad "more than one line of error, or a run"; fi
    rm -rf "$tmp/x"
}
one() { refuse "$1" "$2" "heads=[{$3}]"; }
timed() { one "$1" "$2" "event: death, time: follow_up_days, loss: {name: $3}"; }
one 78 "heads[0]:1:19: unknown key los" 'labels: [lbbb], los: bce'
one 78 "did you mean softmax?" 'labels: [lbbb, rbbb], loss: sofmax'
one 78 "heads[0]: it must name labels, targets, or event and time" 'name: x'
one 78 "heads[0]: labels, targets, event and time are for different heads" 'labels: [lbbb], targets: [age]'
one 78 "heads[0]: event and time go together" 'event: death'
one 78 "heads[0]: loss.name cox reads an event and a time" 'labels: [death], loss: cox'
one 78 "heads[0]: loss.name softmax reads labels" 'targets: [age], loss: softmax'
one 78 "heads[0]: loss.name bce does not read an event" 'event: death, time: follow_up_days, loss: bce'
one 78 "has no label column lbb; did you mean lbbb?" 'labels: [lbb]'
one 78 "has no label column age; it is a target there" 'labels: [age]'
one 78 "has no target column death; it is a label there" 'event: death, time: death'
one 78 "head lbbb (classes): it needs two classes or more" 'labels: [lbbb], loss: softmax'
one 78 "head labels (labels): label lbbb stands twice" 'labels: [lbbb, lbbb]'
one 78 "weight is '-1'" 'labels: [lbbb], weight: -1'
one 78 "the name of a head must be a line of text" 'name: "a\nb", labels: [lbbb]'
one 78 "head lbbb: loss.pos_weight: 2 numbers for 1 labels" 'labels: [lbbb], loss: {pos_weight: [1, 2]}'
one 78 "head lbbb: loss.pos_weight: 0 is outside" 'labels: [lbbb], loss: {pos_weight: [0]}'
one 78 "head lbbb: loss.pos_weight must be a list of numbers" 'labels: [lbbb], loss: {pos_weight: inv}'
one 78 "head age: loss.pos_weight: it has no labels" 'targets: [age], loss: {pos_weight: inverse}'
one 78 "heads[0]: loss.bins is for ordinal and hazard, not for mse" 'targets: [age], loss: {bins: [40]}'
one 78 "reads labels, and targets are asked for: use mse, or give loss.bins" 'targets: [age], loss: ordinal'
one 78 "loss.bins cut one target into classes" 'targets: [age, lvef], loss: {name: ordinal, bins: [40]}'
one 78 "its bins must be finite numbers that rise" 'targets: [age], loss: {name: ordinal, bins: [40, 40]}'
timed 78 "head death (hazard): loss.bins must list the ends" 'hazard'
timed 78 "head death (hazard): its bins must be finite numbers that rise" 'hazard, bins: [365, 100]'
timed 78 "head death (hazard): loss.bins must list the ends of its intervals, all above 0" 'hazard, bins: [0, 100]'
timed 78 "head death: loss.bins must be a list of numbers" 'hazard, bins: [1, x]'
refuse 78 "another head has this name" 'heads=[{labels: [lbbb]}, {name: lbbb, targets: [age]}]'
refuse 78 "head b (labels): output lbbb stands twice" 'heads=[{name: a, labels: [lbbb]}, {name: b, labels: [lbbb], loss: hill}]'
refuse 78 "heads must be a list of 1 to 64 heads" 'heads=[]'
refuse 78 "heads must be a list of 1 to 64 heads" 'heads=lbbb'
refuse 78 "heads[1]:1:20: this must be a map of keys" 'heads=[{labels: [lbbb]}, age]'
refuse 78 "are both set: name all heads in one of them" 'heads=[{labels: [lbbb]}]' 'head.targets=[age]'
refuse 78 "train.mixup: cox orders records in time" "$only_cox" train.mixup=0.2
refuse 78 "train.accumulate: cox with batch norm takes a batch at once" "$only_cox" train.accumulate=2 model.batch_norm=true
# A target as a time that is not one: sex is 0 or 1, the log hazard is below 0.
one 65 "data.train: $ecgs: record sim-0000" 'event: death, time: log_hazard'
one 65 "sex is 0: the time to an event must be above 0" 'event: death, time: sex'

run synth --out "$tmp/shown" --records 30 --seed 5 --rate 100 --length 3
refuse 78 "data.train: $tmp/shown has no label column death" "$only_cox" "data.train=$tmp/shown" data.valid=null
refuse 78 "data.valid: $tmp/shown has no target column lvef" 'heads=[{targets: [lvef]}]' "data.valid=$tmp/shown"
expect 78 "--data: $tmp/shown has no label column low_lvef" run evaluate --weights "$tmp/m" --data "$tmp/shown" --out "$tmp/x"
expect 0 "" run predict --weights "$tmp/m" --data "$tmp/shown" --out "$tmp/shown.csv" # needs no truth
if /usr/bin/python3 -c 'import h5py' 2>/dev/null; then
    cp -r "$ecgs" "$tmp/bad" && rm "$tmp/bad/dataset.json"
    /usr/bin/python3 - "$tmp/bad/shard-00000.h5" <<'PY'
import sys
import h5py
with h5py.File(sys.argv[1], 'r+') as f:
    of = {key: f[key].attrs['names'].split('\n') for key in ('labels', 'targets')}
    f['targets'][6, of['targets'].index('follow_up_days')] = -2
    f['labels'][:, of['labels'].index('pvc')] = 0
    f['labels'][:, of['labels'].index('pac')] = 255
    f['targets'][:, of['targets'].index('axis_deg')] = 30
    f['targets'][:, of['targets'].index('qt_ms')] = float('nan')
PY
    bad=("data.train=$tmp/bad" data.valid=null)
    refuse 65 "data.train: $tmp/bad: record sim-00000007: follow_up_days is -2: the time to an event must be above 0" "$only_cox" "${bad[@]}"
    expect 65 "--data: $tmp/bad: record sim-00000007: follow_up_days is -2" run evaluate --weights "$tmp/m" --data "$tmp/bad" --out "$tmp/x"
    refuse 65 "label pvc is present in none of 200 records: it can't be learnt" 'heads=[{targets: [age]}, {labels: [lbbb, pvc]}]' "${bad[@]}"
    refuse 65 "column pac is unknown in all 200 records" 'heads=[{labels: [lbbb, pac]}]' "${bad[@]}"
    refuse 65 "column qt_ms is unknown in all 200 records" 'heads=[{targets: [qt_ms], loss: gaussian}]' "${bad[@]}"
    refuse 65 "target axis_deg has one value only (30)" 'heads=[{targets: [age, axis_deg], loss: huber}]' "${bad[@]}"
    expect 0 "" run pretrain "$tmp/plain.yaml" --out "$tmp/x" --set 'heads=[{labels: [lbbb, pvc], loss: {pos_weight: inverse}}]' --set "${bad[0]}" \
        --set "${bad[1]}" --set data.allow_absent=true
else
    skip "bad times and columns without a value (needs Debian's python3-h5py)"
fi
finish
