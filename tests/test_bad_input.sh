#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Bad input from outside: every mistake ends in its exit code and one message that names file and place, and leaves
# nothing half-written behind. Files are made by hand here; the HDF5 ones with h5py, where it is there.
set -euo pipefail
shopt -s lastpipe # what stands behind a pipe counts too
cd "$(dirname "$0")/.."
# shellcheck source=tests/support/shell.inc
. tests/support/shell.inc
place=$tmp/place # outputs go here, so that what is left behind is seen
out=$place/out
mkdir "$place"
cd "$tmp"
touch plain.yaml

nothing_left() {
    local left
    left=$(ls -A "$place")
    if [ -n "$left" ]; then bad "$1 left behind: $left"; fi
    find "$place" -mindepth 1 -delete
}
# refuse CODE TEXT COMMAND...: as expect, with one line of error and no output
refuse() {
    expect "$@"
    [ "$(grep -c 'einthoven: error:' stderr)" -eq 1 ] || bad "not one line of error: $(head -c 500 stderr)"
    nothing_left "$2 (exit $1)"
}
run() { "$einthoven" -q "$@"; }

# ---------------------------------------------------------------- WFDB

# 100 samples of two leads, format 16, both starting with 0
samples() {
    local i text
    for ((i = 0; i < 100; i++)); do
        printf -v text '\\0%03o\\0000\\0%03o\\0000' $((i * 7 % 100)) $((i * 3 % 50))
        printf '%b' "$text"
    done
}
signals() { printf '%s.dat 16 1000/mV 16 0 0 4950 0 I\n%s.dat 16 1000/mV 16 0 0 2450 0 II\n' "$1" "$1"; }
mkdir base
{ echo "good 2 100 100"; signals good; } >base/good.hea
samples >base/good.dat
expect 0 "" run import wfdb base --out "$out"
rm -r "$out"

# rejects TEXT: a record beside a good one, its header from stdin (its data: stdin.dat or the good one's)
rejects() {
    rm -rf pair
    cp -r base pair
    cat >pair/zbad.hea
    if [ -e bad.dat ]; then mv bad.dat pair/zbad.dat; else cp base/good.dat pair/zbad.dat; fi
    expect 0 "" run import wfdb pair --out "$out"
    if [ "$(wc -l <"$out/rejected.csv")" -eq 2 ] && grep -q "^zbad," "$out/rejected.csv" && grep -qF "$1" "$out/rejected.csv"; then
        ok "rejected: $1"
    else
        bad "wanted \"$1\" in rejected.csv: $(cat "$out/rejected.csv")"
    fi
    rm -rf "$out"
    nothing_left "import ($1)"
}
with() { echo "$1" && signals zbad; }
with "zbad 2 0 100" | rejects 'zbad.hea:1: not a sampling rate above 0 Hz: ""0""'
with "zbad 2 nan 100" | rejects "not a sampling rate"
with "zbad 2 1e300 100" | rejects "a sampling rate of 1e+300 Hz"
with "zbad 2 200 100" | rejects "needs --rate"
with "zbad 2 100 200" | rejects "zbad.dat: truncated"
with "zbad 2 100 9223372036854775807" | rejects "zbad.dat: truncated"
with "zbad 2 100 99999999999999999999" | rejects "zbad.hea:1: not a number of samples"
with "zbad 2000000000 100 100" | rejects "zbad.hea:1: not a number of signals"
with "zbad 3 100 100" | rejects "2 signal lines, the record line says 3"
with "zbad/3 2 100 100" | rejects "several segments"
with "zbad 2 100 100" | sed 's/ II$/ V1/' | rejects "lead II is not there"
with "zbad 2 100 100" | sed 's/ II$/ I/' | rejects "lead I stands twice"
with "zbad 2 100 100" | sed 's/4950/4951/' | rejects "checksum 4950, its header says 4951"
with "zbad 2 100 100" | sed 's/1000/nan/' | rejects "zbad.hea:2: not a gain"
with "zbad 2 100 100" | sed 's/mV/mmHg/' | rejects '""mmHg""'
with "zbad 2 100 100" | sed 's/ 16 1000/ 99 1000/' | rejects "format 99"
with "zbad 2 100 100" | sed 's|zbad.dat|/etc/passwd|' | rejects "zbad.hea:2: the file of a signal must be a plain name"
with "zbad 2 100 100" | sed 's/zbad.dat/none.dat/' | rejects "none.dat: No such file"
printf '' | rejects "an empty header"
head -c 5000 /dev/zero | rejects "NUL byte"
head -c 50000 /dev/zero | tr '\0' 'x' | rejects "zbad.hea:1:"
head -c 399 base/good.dat >bad.dat
with "zbad 2 100 100" | rejects "zbad.dat: truncated"
head -c 400 /dev/zero >bad.dat
with "zbad 2 100 100" | sed -E 's/4950|2450/0/' | rejects "flat"
printf '\000\200%.0s' {1..200} >bad.dat # -32768: invalid
with "zbad 2 100 100" | sed -E 's/ 0 (4950|2450)/ -32768 0/' | rejects "all samples are invalid"

refuse 66 "$tmp/nowhere: No such file" run import wfdb "$tmp/nowhere" --out "$out"
mkdir empty
refuse 66 "empty: no WFDB record" run import wfdb empty --out "$out"
mkdir lone
cp base/good.hea lone
refuse 65 "none of the 1 records could be imported; the first, good: data file missing" run import wfdb lone --out "$out"
refuse 65 "lead V1 is not there" run import wfdb base --leads I,V1 --out "$out"
refuse 2 "--leads: " run import wfdb base --leads I,I --out "$out"
refuse 2 "--rate and --length must be above 0" run import wfdb base --rate 0 --out "$out"
refuse 2 "--rate and --length must be above 0" run import wfdb base --length 0 --out "$out"
refuse 65 "1 to 16777216 samples can be had" run import wfdb base --rate 1e12 --out "$out"
refuse 65 "1 to 16777216 samples can be had" run import wfdb base --length 1e300 --out "$out"
refuse 2 "did you mean official" run import wfdb base --preset offical --out "$out"
refuse 2 "did you mean wfdb" run import wfbd base --out "$out"
refuse 2 "--out: the value is empty" run import wfdb base --out ""
refuse 73 "base/good.hea: can't create the folder" run import wfdb base --out base/good.hea/x
refuse 73 "/proc/x: can't create the folder" run import wfdb base --out /proc/x
cp -r base twice
expect 0 "" run import wfdb base twice --out "$out"
grep -qF 'good,"record_id ""good"" stands twice"' "$out/rejected.csv"; verdict $? "an id that repeats is rejected"
rm -r "$out"

# table CODE TEXT OPTION...: the CSV from stdin
table() {
    cat >c.csv
    refuse "$1" "$2" run import wfdb base --labels c.csv --out "$out" "${@:3}"
}
printf 'id,AF\ngood,1\n' | table 78 "c.csv: no column AFF; did you mean AF?" --label-columns AFF
printf 'id,AF\ngood,1\n' | table 78 "c.csv: no column idd; did you mean id?" --id-column idd --label-columns AF
printf 'id,AF\ngood,yes\n' | table 65 'c.csv:2: column AF holds "yes"' --label-columns AF
printf 'id,age\ngood,old\n' | table 65 'c.csv:2: column age holds "old"' --target-columns age
printf 'id,AF\ngood,\n' | table 65 "c.csv: label AF is unknown for every record" --label-columns AF
printf 'id,age\ngood,\n' | table 65 "c.csv: target age is unknown for every record" --target-columns age
printf 'id,AF\ngood,1\ngood,0\n' | table 65 'c.csv:3: the id "good" stands in line 2' --label-columns AF
printf 'id,AF\nbest,1\n' | table 65 "no record's id stands in column id" --label-columns AF
printf 'id,AF\n"good,1\n' | table 65 "c.csv:2: a quote opens here" --label-columns AF
printf 'id,AF\ngood\n' | table 65 "c.csv:2: 1 cells" --label-columns AF
printf '' | table 65 "c.csv:1: empty" --label-columns AF
refuse 66 "none.csv: No such file" run import wfdb base --labels none.csv --label-columns AF --out "$out"

# ---------------------------------------------------------------- synth

refuse 2 "no records" run synth --out "$out" --records 0
refuse 2 "is not a valid count" run synth --out "$out" --records 99999999999
refuse 2 "0 Hz" run synth --out "$out" --records 5 --rate 0
refuse 2 "0 s" run synth --out "$out" --records 5 --length 0
refuse 2 "1e+300 s" run synth --out "$out" --records 5 --length 1e300
refuse 73 "/proc/x: can't create the folder" run synth --out /proc/x --records 5
refuse 73 "good.hea: can't create the folder" run synth --out base/good.hea/x --records 5

# ---------------------------------------------------------------- training

data=$tmp/ecgs
run synth --out "$data" --records 40 --seed 3 --rate 100
small=(--set model.base_filters=8 --set 'model.filters=[16]' --set 'model.blocks=[1]' --set train.steps=2 --set train.batch_size=8)
train() { run pretrain plain.yaml "${small[@]}" --set data.train="{path: $data, part: [0, 0.8]}" --set data.valid="{path: $data, part: [0.8, 1]}" --out "$out" "$@"; }
refuse 78 "train.batch_size: 16777216" train --set train.batch_size=16777216
refuse 78 "must be an integer from 1" train --set train.batch_size=99999999999999999999
refuse 78 "optim.lr is '.nan'" train --set optim.lr=.nan
refuse 78 "optim.beta1 is '1'" train --set optim.beta1=1
refuse 78 "model.stride is '0'" train --set model.stride=0
refuse 78 "model.filters has 2 stages" train --set 'model.filters=[16, 16]'
refuse 78 "did you mean path" train --set 'data.test={pth: x}'
refuse 78 "has no label column sinus_rythm; did you mean sinus_rhythm?" train --set "data.labels=[sinus_rythm]"
refuse 78 "has no label column age; it is a target there" train --set "data.labels=[age]"
refuse 78 "has no target column lbbb; it is a label there" train --set loss.name=mse --set "data.targets=[lbbb]"
refuse 66 "data.test: nowhere: is not there" train --set data.test=nowhere
refuse 65 "data.train and data.test share" train --set data.test="$data"
refuse 66 "empty: holds no shard" train --set data.train=empty
refuse 65 "plain.yaml: is not an HDF5 file" train --set data.train=plain.yaml
refuse 66 "init.weights: nowhere: No such file" train --set init.weights=nowhere
refuse 73 "plain.yaml: can't create the folder" train --out plain.yaml/x
refuse 73 "/proc/x: can't create the folder" train --out /proc/x
bad_config() {
    cat >bad.yaml
    refuse 78 "$1" run pretrain bad.yaml --out "$out"
}
printf 'optim:\n  lrr: 3\n' | bad_config "bad.yaml:2:3: unknown key optim.lrr; did you mean optim.lr"
printf 'optim:\n  lr: 3\n  lr: 4\n' | bad_config "bad.yaml:3:3: key lr is already given"
printf 'optim:\n\tlr: 3\n' | bad_config "bad.yaml:2:1"
printf 'a: &a [*a]\n' | bad_config "bad.yaml:1"
head -c 100000 /dev/zero | tr '\0' '[' | bad_config "nested deeper"
head -c 1000 /dev/zero | bad_config "bad.yaml"
if (ulimit -v 1000000 && "$einthoven" --version >stdout 2>&1); then
    (ulimit -v 1000000 && exec "$einthoven" -q pretrain plain.yaml --set data.train="$data" --set train.batch_size=65536 --out "$out") 2>stderr &&
        status=0 || status=$?
    [ "$status" -eq 1 ] && grep -q "out of memory" stderr; verdict $? "a batch larger than the memory ends in a message"
else
    skip "a batch larger than the memory (this build needs more than 1 GB of address space to start)"
fi
nothing_left "out of memory"

train --out r
weights=$(readlink -f r/checkpoints/last)/model.safetensors

# ---------------------------------------------------------------- configs

# config TEXT with the file from stdin
config() {
    cat >bomb.yaml
    refuse 78 "bomb.yaml:$1" run pretrain bomb.yaml --set data.train="$data" --out "$out"
}
printf 'train: &t {seed: 1}\noptim: *t\n' | config "2:8: aliases are not supported"
printf 'train:\n  seed: !!int 1\n' | config "2:9: tags are not supported"
printf 'train: {seed: 1}\noptim: {lr: 1}\ntrain: {steps: 1}\n' | config "3:1: key train is already given on line 1"
printf 'train: {seed: 1}\ntrain.seed: 2\n' | config "2:1: key train.seed is given twice"
printf 'train: {seed: %s}\n' "$(printf '9%.0s' {1..400})" | config "1:15: train.seed is '9999"
printf 'optim:\n  lr: 1e999\n' | config "2:7: optim.lr is '1e999'; must be a number"
printf 'a: 1\nb: x\0y\n' | config "2:5: byte 9: control characters"
printf 'a: 1\nb: \377\n' | config "2:4: byte 8: invalid leading UTF-8"
printf 'a: "\\0"\n' | config "1:4: a NUL character"
printf '[%.0s' {1..100} | config "1:65: nested deeper than 64 levels"
printf 'data:\n  train: %s%s\n' "$(printf '[%.0s' {1..63})" "$(printf ']%.0s' {1..63})" | config "2:72: nested deeper than 64"
printf 'data.train: %s%s\n' "$(printf '[%.0s' {1..63})" "$(printf ']%.0s' {1..63})" |
    config "1:13: data.train is nested deeper than 62 levels"

# ---------------------------------------------------------------- weights

predict() { run predict --data "$data" --out "$out.csv" --weights "$@"; }
refuse 66 "nowhere: No such file" predict nowhere
refuse 66 "empty: neither a weights file" predict empty
head -c -1 "$weights" >w && refuse 65 "w: tensor" predict w
head -c 7 "$weights" >w && refuse 65 "w: too short" predict w
{ cat "$weights" && printf x; } >w && refuse 65 "behind the last tensor" predict w
{ printf '\377\377\377\377\377\377\377\177' && tail -c +9 "$weights"; } >w && refuse 65 "w: not a safetensors file" predict w
sed '1s/"shape":\[/"shape":[-/' "$weights" >w && refuse 65 "w:" predict w
sed '1s/"shape":\[8/"shape":[9/' "$weights" >w && refuse 65 "do not make up" predict w
{ head -c -4 "$weights" && printf '\0\0\300\177'; } >w && refuse 65 "holds nan" predict w
refuse 2 "must end in .csv or .h5" run predict --weights r --data "$data" --out "$out.txt"
refuse 2 "--batch must be at least 1" predict r --batch 0
refuse 73 "can't create" run predict --weights r --data "$data" --out plain.yaml/p.csv
refuse 73 "nowhere/p.h5: can't create" run predict --weights r --data "$data" --out nowhere/p.h5
refuse 66 "--data: empty: holds no shard" run predict --weights r --data empty --out "$out.csv"
refuse 78 "no record is left" run predict --weights r --data "{path: $data, fold: 77}" --out "$out.csv"
expect 0 "" predict r --batch 65536 # no more than there are
rm "$out.csv"

evaluate() { run evaluate --weights r --data "$data" --out "$out" "$@"; }
refuse 78 "the network has no output nothing" evaluate --labels nothing
refuse 2 "lbbb stands twice" evaluate --labels lbbb,lbbb
refuse 2 "--labels: " evaluate --labels ,
refuse 65 "plain.yaml: is not an HDF5 file" evaluate --predictions plain.yaml
refuse 73 "/proc/x: can't create the folder" evaluate --out /proc/x
refuse 73 "plain.yaml: can't create the folder" evaluate --out plain.yaml
run predict --weights r --data "{path: $data, part: [0, 0.5]}" --out half.h5
refuse 65 "half.h5: no row for record" evaluate --predictions half.h5

# a damaged checkpoint
resume() { run pretrain r2/config.yaml --out r2 --resume; }
last=r2/checkpoints/$(readlink r/checkpoints/last)
damage() { rm -rf r2 && cp -a r r2; }
damage && head -c 90 "r/checkpoints/last/state.safetensors" >"$last/state.safetensors"
expect 65 "state.safetensors: has 90 bytes" resume
damage && echo '{' >"$last/state.json"
expect 65 "state.json: its last line is not the checksum" resume
damage && rm "$last/model.safetensors"
expect 65 "model.safetensors: No such file" resume

# ---------------------------------------------------------------- inspect

refuse 66 "nowhere: no such file" run inspect nowhere
refuse 65 "plain.yaml: is not an HDF5 file" run inspect plain.yaml
refuse 65 "/dev/zero: is not a plain file" run inspect /dev/zero
head -c -1 "$weights" >cut.safetensors
refuse 65 "cut.safetensors: tensor" run inspect cut.safetensors

# ---------------------------------------------------------------- HDF5 arrays and shards

# array CODE TEXT FILE, and map CODE TEXT with the map from stdin
printf '%s\n' 'signal: x' 'layout: NLC' 'sampling_rate: 100' 'units: mV' 'leads: [I, II]' 'labels: {y: [A, B]}' \
    'targets: {age: age}' 'record_id: id' >map.yaml
array() { refuse "$1" "$2" run import hdf5 "$3" --map "${4:-map.yaml}" --out "$out"; }
map() {
    cat >m.yaml
    array "$1" "$2" good.h5 m.yaml
}
make_arrays() {
    /usr/bin/python3 - <<'PY'
import h5py
import numpy as np

random = np.random.RandomState(0)
good = {"x": random.randn(20, 100, 2), "y": np.arange(40).reshape(20, 2) % 2, "age": np.arange(20.0), "id": np.arange(20)}


def write(name, **other):
    with h5py.File(name, "w") as f:
        for key, value in {**good, **other}.items():
            f[key] = value


bad = good["x"].copy()
bad[3], bad[4], bad[5, :7] = np.nan, 1, np.inf
write("good.h5")
write("some.h5", x=bad, id=np.r_[0:19, 0])
write("nan.h5", x=bad * np.nan)
write("huge.h5", x=bad * 1e300)
write("unknown.h5", y=np.full((20, 2), 255))
write("three.h5", y=np.full((20, 2), 3))
write("noage.h5", age=np.full(20, np.nan))
write("short.h5", age=np.zeros(19))
write("none.h5", x=np.zeros((0, 100, 2)))
write("text.h5", x=np.array([b"a"] * 20))
with h5py.File("claims.h5", "w") as f:
    f.create_dataset("x", (1 << 40, 1 << 20, 2), chunks=(1, 1024, 2), dtype="f4")


def shard(name, **other):
    with h5py.File(name, "w") as f:
        parts = {"ecg": random.randint(-900, 900, (8, 2, 100)).astype("i2"), "scale": np.full(8, 0.001, "f4"),
                 "record_id": np.array(["r%d" % i for i in range(8)], "S8"),
                 "labels": np.zeros((8, 1), "u1"), **other}
        rate = parts.pop("rate", 100.0)
        for key, value in parts.items():
            f[key] = value
        f["labels"].attrs["names"] = "AF"
        f.attrs.update(format="ecg-shard", version=1, sampling_rate=rate, leads="I,II", units="mV", preprocessing="none")


shard("s_good.h5")
shard("s_rate.h5", rate=0.0)
shard("s_twice.h5", record_id=np.array(["r"] * 8, "S8"))
shard("s_scale.h5", scale=np.full(8, np.nan, "f4"))
shard("s_rows.h5", labels=np.zeros((7, 1), "u1"))
shard("s_label.h5", labels=np.full((8, 1), 7, "u1"))
shard("s_unknown.h5", labels=np.full((8, 1), 255, "u1"))
shard("s_none.h5", ecg=np.zeros((0, 2, 100), "i2"), scale=np.zeros(0, "f4"), record_id=np.zeros(0, "S8"),
      labels=np.zeros((0, 1), "u1"))
shard("s_float.h5", ecg=np.zeros((8, 2, 100)))
PY
}
if ! /usr/bin/python3 -c 'import h5py, numpy' 2>/dev/null; then
    skip "arrays and shards: needs Debian's python3-h5py"
else
    make_arrays
    expect 0 "" run import hdf5 some.h5 --map map.yaml --out "$out"
    printf '%s\n' record_id,reason '3,all samples are invalid (NaN)' '4,flat: every lead has one value throughout' \
        '0,"record_id ""0"" stands twice"' | cmp -s - "$out/rejected.csv"
    verdict $? "import goes on past bad records and lists them"
    rm -r "$out"
    array 65 "none of the 20 records could be imported" nan.h5
    array 65 "none of the 20 records could be imported" huge.h5
    array 65 "unknown.h5: label A is unknown for every record" unknown.h5
    array 65 "three.h5: label A (y), row 0: 3 is not" three.h5
    array 65 "noage.h5: target age is unknown for every record" noage.h5
    array 65 "short.h5: age has 19 rows" short.h5
    array 65 "none.h5: x is empty" none.h5
    array 65 "text.h5: x holds no numbers" text.h5
    array 65 "claims.h5: x: claims more data" claims.h5
    head -c 10000 good.h5 >cut.h5 && array 65 "cut.h5: is not an HDF5 file, or a damaged" cut.h5
    array 66 "nowhere.h5: No such file" nowhere.h5
    array 66 "nowhere.yaml: No such file" good.h5 nowhere.yaml
    sed 's/layout/layuot/' map.yaml | map 78 "m.yaml:2: unknown key layuot; did you mean layout?"
    sed 's/NLC/NCL/' map.yaml | map 78 "x has 100 channels in layout NCL"
    sed 's/rate: 100/rate: 0/' map.yaml | map 78 "m.yaml:3: sampling_rate"
    sed 's/rate: 100/rate: 1e300/' map.yaml | map 65 "a sampling rate of 1e+300 Hz"
    sed 's/II\]/II, V1]/' map.yaml | map 78 "the map names 3 leads"
    sed 's/A, B/A, A/' map.yaml | map 78 "m.yaml:6: the column A stands twice"
    sed 's/signal: x/signal: z/' map.yaml | map 78 "good.h5: no dataset z"
    printf '' | map 78 "m.yaml: a map of keys wanted"
    refuse 2 "needs --map" run import hdf5 good.h5 --out "$out"

    tiny=("${small[@]}" --set 'model.in_leads=[I, II]')
    shard() { refuse "$1" "$2" run pretrain plain.yaml "${tiny[@]}" --set data.train="$3" --out "$out"; }
    shard 65 "s_rate.h5: sampling_rate 0 Hz" s_rate.h5
    expect 65 "s_scale.h5" run pretrain plain.yaml "${tiny[@]}" --set data.train=s_scale.h5 --out "$out"
    rm -r "$out"
    expect 0 "" run pretrain plain.yaml "${tiny[@]}" --set data.train=s_good.h5 --out tiny
    run predict --weights tiny --data s_twice.h5 --out p_twice.h5
    refuse 65 "p_twice.h5: record r stands twice" run evaluate --weights tiny --data s_good.h5 \
        --predictions p_twice.h5 --out "$out"
    shard 65 "s_rows.h5" s_rows.h5
    shard 65 "s_label.h5" s_label.h5
    shard 65 "s_unknown.h5: column AF is unknown in all 8 records" s_unknown.h5
    shard 65 "s_none.h5: holds no record" s_none.h5
    shard 65 "s_float.h5" s_float.h5
    head -c -100 s_good.h5 >s_cut.h5 && shard 65 "s_cut.h5: is not an HDF5 file, or a damaged" s_cut.h5
    mkdir mixed && cp s_good.h5 s_rate.h5 mixed && shard 65 "s_rate.h5" mixed
fi

# ---------------------------------------------------------------- a full disk, a folder that can't be written

# full KIB CODE TEXT COMMAND...: with KIB left on the disk
full() {
    head -c $(((64 - $1) * 1024)) /dev/zero >"$place/fill"
    expect "${@:2}"
    rm "$place/fill"
    nothing_left "a full disk (${*:4:3})"
}
if [ "$(id -u)" -ne 0 ] || ! mount -t tmpfs -o size=64k einthoven-test "$place" 2>/dev/null; then
    skip "a full disk: needs root and a mount"
else
    trap 'umount "$place"; rm -rf "$tmp"' EXIT
    full 64 74 "shard-00000.h5.tmp: writing failed" run synth --out "$out" --records 50
    full 0 74 "writing failed" run import wfdb base --out "$out"
    full 4 74 "p.csv: writing failed" run predict --weights r --data "$data" --out "$place/p.csv"
    full 4 74 "p.h5: writing failed" run predict --weights r --data "$data" --out "$place/p.h5"
    full 4 74 "embed.h5: writing failed" run embed --weights r --data "$data" --out "$place/embed.h5"
    full 4 74 "predictions.csv: writing failed" evaluate
    full 16 74 "metrics.json: writing failed" evaluate
    expect 74 "writing failed" train --set model.base_filters=64 --set 'model.filters=[64]'
    [ -z "$(find "$out" -name '*.tmp*' -o -name '.writing')" ] && [ -z "$(ls -A "$out/checkpoints")" ]
    verdict $? "a checkpoint that did not fit is not there"
    umount "$place"
    trap 'rm -rf "$tmp"' EXIT
fi

if [ "$(id -u)" -ne 0 ] || ! setpriv --reuid=65534 --clear-groups true 2>/dev/null; then
    skip "an unwritable folder: needs root and setpriv"
else
    cp "$einthoven" program
    chmod 755 "$tmp" "$place" program
    other() { setpriv --reuid=65534 --clear-groups ./program -q "$@"; }
    refuse 73 "Permission denied" other synth --out "$out" --records 3
    refuse 73 "Permission denied" other synth --out "$place" --records 3
    refuse 73 "Permission denied" other import wfdb base --out "$out"
    refuse 73 "Permission denied" other pretrain plain.yaml "${small[@]}" --set data.train="$data" --out "$out"
    refuse 73 "Permission denied" other predict --weights r --data "$data" --out "$place/p.csv"
    refuse 73 "Permission denied" other predict --weights r --data "$data" --out "$place/p.h5"
    refuse 73 "Permission denied" other evaluate --weights r --data "$data" --out "$out"
    chmod 700 base
    refuse 66 "base/: Permission denied" other import wfdb base --out "$out"
fi
finish
