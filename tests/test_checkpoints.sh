#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Checkpoints of a run that goes on while they are written: the same bytes as those of a run that ends there, a pause of less
# than one step, damage passed over on --resume, killed at random moments, on a disk that is full.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/support/shell.inc
. tests/support/shell.inc

draw_from "${SEED:-1}"
"$einthoven" -q synth --out "$tmp/ecgs" --records 90 --seed 5 --rate 100
cat >"$tmp/c.yaml" <<CONFIG
model: {base_filters: 16, filters: [16, 32], blocks: [1, 2], batch_norm: true, dropout: 0.2, drop_path: 0.1}
data: {train: {path: $tmp/ecgs, part: [0, 0.7]}}
optim: {lr: 1e-3}
schedule: {name: constant}
train: {batch_size: 8, epochs: 0, steps: 12, save_every: 1, keep: 3, ema: 0.9, threads: 2}
CONFIG
# In the background $! must be the program itself, so that a signal reaches it: hence exec.
config=$tmp/c.yaml
launch() { # OUT ARGUMENT...
    local out=$1
    shift
    exec "$einthoven" -q pretrain "$config" --out "$out" "$@" >>"$tmp/log" 2>&1
}
run() { (launch "$@"); }
exit_code() { # COMMAND...: sets code
    code=0
    "$@" || code=$?
}
lines() { sed 's/,"ecg_per_s":[^}]*//' "$1/metrics.jsonl"; }
# Weights, moments, position and metrics are the whole run's.
same() { # OUT WHOLE
    local name
    for name in model.safetensors state.safetensors state.json; do
        cmp "$1/checkpoints/last/$name" "$2/checkpoints/last/$name" || return 1
    done
    [ "$(lines "$1")" = "$(lines "$2")" ]
}
holds() { # TEXT...: each in the log
    local text
    for text in "$@"; do grep -qF -- "$text" "$tmp/log" || { echo "not said: $text"; tail -n 5 "$tmp/log"; return 1; }; done
}
checkpoints() { (cd "$1/checkpoints" && echo step-*); } # OUT

# ---------------------------------------------------------------- the same bytes, how many stay

whole=$tmp/whole
run "$whole"
status=0; [ "$(checkpoints "$whole")" = "step-00000010 step-00000011 step-00000012" ] || status=1
verdict $status "train.keep: 3 of them: $(checkpoints "$whole")"
run "$tmp/all" --set train.keep=100
for step in 3 7 11; do
    status=0
    run "$tmp/s$step" --set train.steps=$step
    for name in model.safetensors state.safetensors; do
        cmp "$tmp/s$step/checkpoints/last/$name" "$tmp/all/checkpoints/step-000000$(printf %02d $step)/$name" || status=1
    done
    verdict $status "step $step saved in the background: the bytes of a run that ends there"
done
status=0; cmp "$whole/checkpoints/last/model.safetensors" "$tmp/all/checkpoints/last/model.safetensors" || status=1
verdict $status "train.keep changes no result"
expect 0 "step-00000011: whole" "$einthoven" inspect "$whole"

# ---------------------------------------------------------------- damage

flip() { # FILE: inverts a byte in the middle
    local at=$(($(stat -c %s "$1") / 2)) byte
    byte=$(od -An -tu1 -j $at -N 1 "$1")
    printf '%b' "\\x$(printf %02x $((byte ^ 255)))" | dd of="$1" bs=1 seek=$at conv=notrunc status=none
}
cut_off() { truncate -s -1 "$1"; }
damaged() { # HOW FILE TEXT: `last` is passed over for the one before
    local how=$1 file=$2 text=$3 out=$tmp/damaged status=0
    rm -rf "$out"
    cp -a "$whole" "$out"
    $how "$out/checkpoints/step-00000012/$file"
    "$einthoven" inspect "$out" >"$tmp/sheet"
    grep -q "step-00000012: .*$text" "$tmp/sheet" && grep -q "step-00000011: whole" "$tmp/sheet" || status=1
    : >"$tmp/log"
    exit_code run "$out" --resume
    [ $code -eq 0 ] && holds "$file: " "$text" "going on from the checkpoint before" "step-00000011" || status=1
    same "$out" "$whole" || status=1
    verdict $status "$how $file: goes on from the one before, to the same end"
}
for name in model.safetensors state.safetensors state.json; do
    case $name in state.json) sealed="is not the checksum" ;; *) sealed="are not those that were written" ;; esac
    damaged flip $name "$sealed"
    [ $name = state.json ] || sealed="bytes, not the"
    damaged cut_off $name "$sealed"
    damaged rm $name "No such file"
done
out=$tmp/damaged
rm -rf "$out"; cp -a "$whole" "$out"
rm -r "$out/checkpoints/step-00000012"; flip "$out/checkpoints/step-00000011/model.safetensors"
: >"$tmp/log"
status=0
{ run "$out" --resume && holds "step-00000012/state.json: No such file" "step-00000011/model.safetensors: " \
    "before: $out/checkpoints/step-00000010" && same "$out" "$whole"; } || status=1
verdict $status "the folder gone, the next one damaged: goes on from the third"
rm -rf "$out"; cp -a "$whole" "$out"
for step in 10 11 12; do flip "$out/checkpoints/step-000000$step/state.safetensors"; done
before=$(cd "$out" && find . -type f -exec md5sum {} + | grep -v manifest | sort)
expect 65 "no checkpoint before it is whole" "$einthoven" -q pretrain "$tmp/c.yaml" --out "$out" --resume
status=0; [ "$before" = "$(cd "$out" && find . -type f -exec md5sum {} + | grep -v manifest | sort)" ] || status=1
verdict $status "none is whole: nothing was changed"

# ---------------------------------------------------------------- kill -9

unless_sanitized "kills, full disks, the pause of a save: moments are other ones under a sanitizer (test_saver has the same in small)"
hits=0 writing=0 broken=0 runs=0
span=$(date +%s%N)
run "$tmp/timed"
span=$((($(date +%s%N) - span) / 1000000))
status=0
while [ $hits -lt 10 ] && [ $runs -lt 15 ]; do
    out=$tmp/killed runs=$((runs + 1))
    rm -rf "$out"
    for _ in 1 2 3; do
        launch "$out" --resume &
        pid=$!
        nap=0
        draw_below nap "$span"
        sleep "$((nap / 1000)).$(printf '%03d' $((nap % 1000)))"
        kill -9 $pid 2>/dev/null || true
        exit_code wait $pid 2>/dev/null
        [ $code -eq 137 ] || break
        hits=$((hits + 1))
        [ ! -e "$out/checkpoints/.writing" ] || writing=$((writing + 1))
        [ ! -L "$out/checkpoints/last" ] || "$einthoven" inspect "$out" | grep -q "$(readlink "$out/checkpoints/last"): whole" ||
            broken=$((broken + 1))
    done
    run "$out" --resume || status=1
    same "$out" "$whole" && [ "$(checkpoints "$out")" = "$(checkpoints "$whole")" ] || status=1
done
[ $hits -ge 10 ] && [ $broken -eq 0 ] || status=1
verdict $status "$hits kills of $runs runs, $writing while a checkpoint was being written: the uninterrupted run's end"

# ---------------------------------------------------------------- a full disk

sed 's/steps: 12, save_every: 1, keep: 3/steps: 60, save_every: 3/' "$config" >"$tmp/long.yaml"
config=$tmp/long.yaml
# What runs in its own mount namespace, on a file system of 5 checkpoints.
on_small_disk() { # FUNCTION
    local size
    size=$(du -sk "$whole/checkpoints/step-00000012" | cut -f1)
    mkdir -p "$tmp/disk"
    export -f launch run exit_code lines same holds ballast "${1?}"
    export einthoven tmp config size
    "${namespace[@]}" bash -c "mount -t tmpfs -o size=$((5 * size))k none $tmp/disk && $1"
}
# Room for one checkpoint and a half is left.
ballast() { head -c $((size * 3584)) /dev/zero >"$tmp/disk/ballast"; }
full_for_a_while() {
    : >"$tmp/log"
    ballast
    launch "$tmp/disk/run" &
    local pid=$! last
    while ! grep -q "is not saved" "$tmp/log" && kill -0 $pid 2>/dev/null; do sleep 0.01; done
    last=$(readlink "$tmp/disk/run/checkpoints/last")
    "$einthoven" inspect "$tmp/disk/run" | grep -q "$last: whole" || return 1
    rm "$tmp/disk/ballast"
    exit_code wait $pid
    [ "$code" -eq 0 ] || return 1
    holds "No space left on device" ".writing/" "training goes on" || return 1
    [ "$(ls -A "$tmp/disk/run/checkpoints")" = "$(ls -A "$tmp/long/checkpoints")" ] && same "$tmp/disk/run" "$tmp/long"
}
full_to_the_end() {
    : >"$tmp/log"
    ballast
    exit_code run "$tmp/disk/run"
    [ "$code" -eq 74 ] || { echo "exit $code"; return 1; }
    holds "step 60, at which this run ends, is not saved" "make room" "goes on from step 3" || return 1
    [ "$(cd "$tmp/disk/run/checkpoints" && echo .[!.]* *)" = ".[!.]* best last step-00000003" ] || return 1
    "$einthoven" inspect "$tmp/disk/run" | grep -q "step-00000003: whole" || return 1
    rm "$tmp/disk/ballast"
    run "$tmp/disk/run" --resume &&
        same "$tmp/disk/run" "$tmp/long"
}
# Somebody else fills the disk to its last byte: there is no room for metrics.jsonl either.
full_of_others() {
    : >"$tmp/log"
    launch "$tmp/disk/run" &
    local pid=$!
    while [ ! -L "$tmp/disk/run/checkpoints/last" ] && kill -0 $pid 2>/dev/null; do sleep 0.01; done
    while kill -0 $pid 2>/dev/null; do cat /dev/zero 2>/dev/null >>"$tmp/disk/others" || true; done
    exit_code wait $pid
    [ "$code" -eq 74 ] || { echo "exit $code"; return 1; }
    holds "its lines wait until there is room" || return 1
    rm "$tmp/disk/others"
    run "$tmp/disk/run" --resume &&
        same "$tmp/disk/run" "$tmp/long"
}
namespace=(unshare -m)
[ "$(id -u)" -eq 0 ] || namespace=(unshare -rm)
mkdir -p "$tmp/disk"
if "${namespace[@]}" mount -t tmpfs none "$tmp/disk" 2>/dev/null; then
    run "$tmp/long"
    for how in full_for_a_while full_to_the_end full_of_others; do
        status=0
        on_small_disk $how || status=1
        [ $status -eq 0 ] || tail -n 5 "$tmp/log"
        verdict $status "disk: ${how//_/ }"
    done
else
    skip "disk full: a file system can't be mounted here (unshare -m)"
fi

# ---------------------------------------------------------------- the pause

# A time a line of metrics.jsonl; the step after a save has that save's pause in it.
cat >"$tmp/pause.yaml" <<CONFIG
model: {base_filters: 64, filters: [64, 160, 160, 400, 512], blocks: [2, 2, 2, 3, 3]}
data: {train: {path: $tmp/ecgs, part: [0, 0.7]}}
train: {batch_size: 24, epochs: 0, steps: 13, save_every: 3}
CONFIG
mkdir "$tmp/pause"
touch "$tmp/pause.log"
pause() {
    "$einthoven" -q pretrain "$tmp/pause.yaml" --out "$tmp/pause" &
    local pid=$!
    while [ ! -e "$tmp/pause/metrics.jsonl" ] && kill -0 $pid 2>/dev/null; do sleep 0.01; done
    tail -n +1 -f --pid=$pid -s 0.05 "$tmp/pause/metrics.jsonl" | while read -r _; do echo "$EPOCHREALTIME"; done >"$tmp/times"
    wait $pid
}
exit_code pause
LC_ALL=C awk '
    function median(a, n,    i, j, x) {
        for (i = 2; i <= n; i++) for (j = i; j > 1 && a[j - 1] > a[j]; j--) { x = a[j]; a[j] = a[j - 1]; a[j - 1] = x }
        return a[int((n + 1) / 2)]
    }
    NR > 2 { if (NR % 3 == 1) with[++n] = $1 - last; else without[++m] = $1 - last }
    { last = $1 }
    END {
        a = median(with, n); b = median(without, m)
        printf "a step %.0f ms, with the pause of a save %.0f ms (medians of %d and %d)\n", 1000 * b, 1000 * a, m, n
        exit !(NR == 13 && a - b < b)
    }' "$tmp/times" >"$tmp/verdict" && status=$code || status=1
verdict $status "the pause of a save ($(du -sm "$tmp/pause/checkpoints/last/" | cut -f1) MiB) is less than one step: $(cat "$tmp/verdict")"
finish
