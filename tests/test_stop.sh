#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs that are told to stop or to save: the time limit, USR2, INT once and twice, TERM again and again, --requeue with a stand-in
# for scontrol. What was stopped ends, resumed, with the uninterrupted run's weights, bit for bit.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/support/shell.inc
. tests/support/shell.inc
unless_sanitized "times are those of a program that is not slowed down"
unset SLURM_JOB_ID SLURM_ARRAY_JOB_ID SLURM_ARRAY_TASK_ID SLURM_JOB_END_TIME

"$einthoven" -q synth --out "$tmp/ecgs" --records 60 --seed 5 --rate 100
cat >"$tmp/c.yaml" <<CONFIG
model: {base_filters: 8, filters: [8, 16], blocks: [1, 2], kernel_size: 5, group_width: 8, dropout: 0.2}
data: {train: {path: $tmp/ecgs}}
train: {batch_size: 8, threads: 1, epochs: 0}
CONFIG

# scontrol that says what state a job is in and notes what it is asked for.
mkdir "$tmp/bin"
cat >"$tmp/bin/scontrol" <<'SCONTROL'
#!/bin/sh
case $* in
ping) echo "Slurmctld(primary) at x is ${CONTROLLER:-UP}" ;;
--version) echo "slurm 1.2.3" ;;
*show*) echo "JobId=1 JobName=x JobState=${STATE:-RUNNING} Reason=None" ;;
*) echo "$@" >>"$TOLD"; exit "${CODE:-0}" ;;
esac
SCONTROL
printf '#!/bin/sh\n' >"$tmp/bin/srun"
chmod +x "$tmp/bin/scontrol" "$tmp/bin/srun"
export TOLD=$tmp/told PATH=$tmp/bin:$PATH
: >"$TOLD"
told() { # TEXT WHAT: all that scontrol was asked for since the last call
    local status=0
    [ "$(sort -u "$TOLD")" = "$1" ] || { status=1; cat "$TOLD"; }
    verdict $status "$2: scontrol was asked for \"$1\""
    : >"$TOLD"
}

pretrain() { "$einthoven" pretrain "$tmp/c.yaml" "$@"; }
# In the background $! must be the program itself, so that a signal reaches it: hence exec.
launch() { exec "$einthoven" pretrain "$tmp/c.yaml" "$@" 2>"$tmp/stderr"; }
steps() { if [ -e "$1/metrics.jsonl" ]; then grep -c '"kind":"train"' "$1/metrics.jsonl" || true; else echo 0; fi; }
until_true() { # COMMAND...: within 30 s
    local i
    for ((i = 0; i < 600; i++)); do
        if "$@"; then return; fi
        sleep 0.05
    done
    bad "not within 30 s: $*"
}
has_steps() { [ "$(steps "$1")" -ge "$2" ]; }
says() { grep -qF -- "$1" "$tmp/stderr"; }
# The run in OUT, a few steps under way: sets pid.
start() { # OUT ARGUMENT...
    rm -f "$tmp/stderr"
    launch "${long[@]}" --out "$@" &
    pid=$!
    until_true has_steps "$1" 3
}
ends() { # CODE TEXT WHAT: how it ends, and what it says
    local code=0 status=0
    wait "$pid" 2>/dev/null || code=$?
    [ $code -eq "$1" ] || status=1
    [ -z "$2" ] || says "$2" || status=1
    [ $status -eq 0 ] || cat "$tmp/stderr"
    verdict $status "$3: exit code $1 ($code), \"$2\""
}
resumes() { # OUT WHAT: to its end, where it is as the whole run
    local status=0
    [ "$(steps "$1")" -lt $n ] || { status=1; echo "it had been finished already"; }
    pretrain "${long[@]}" --out "$1" --resume 2>"$tmp/stderr" || { status=1; cat "$tmp/stderr"; }
    [ "$(steps "$1")" = $n ] || status=1
    cmp "$1/checkpoints/last/model.safetensors" "$tmp/whole/checkpoints/last/model.safetensors" || status=1
    verdict $status "$2, resumed: the uninterrupted run's weights after $n steps"
}

for bad_time in 0 1:2:3:4 1-2 x 1:60 -5 1-24:00 12m 00:00; do
    expect 2 "--max-time: \"$bad_time\"" pretrain --out "$tmp/none" --max-time="$bad_time"
done
expect 2 "neither auto nor never" pretrain --out "$tmp/none" --requeue always
for good_time in 90=5400 01:30=5400 1-00:00=86400 00:01:30=90 2-03:00:01=183601; do
    expect 0 "within ${good_time#*=} s (--max-time)" pretrain --out "$tmp/$good_time" --set train.steps=1 \
        --max-time "${good_time%=*}"
done

# A run of about eight seconds: of five times the steps that two seconds allow.
milliseconds() { echo $(($(date +%s%N) / 1000000)); }
expect 75 "by the time limit" pretrain --out "$tmp/rate" --set train.steps=1000000 --max-time 00:00:02
n=$(($(steps "$tmp/rate") * 5))
long=(--set train.steps="$n")
pretrain --out "$tmp/whole" "${long[@]}" 2>/dev/null

# Started again and again under a limit of two seconds, in which it must have saved. A second more is a busy machine's.
limited() { # OUT WHAT COMMAND...: sets stops
    local out=$1 what=$2 code=75 status=0 began took
    shift 2
    stops=0
    while [ $code -eq 75 ] && [ $stops -lt 30 ]; do
        began=$(milliseconds) code=0
        "$@" "$einthoven" pretrain "$tmp/c.yaml" "${long[@]}" --out "$out" --resume 2>"$tmp/stderr" "${limit[@]}" || code=$?
        took=$(($(stat -c %.3Y "$out/checkpoints/last" | tr -d .) - began))
        [ $code -eq 75 ] || break
        stops=$((stops + 1))
        says "by the time limit, state saved" || { status=1; cat "$tmp/stderr"; }
        [ $took -lt 3000 ] || { status=1; echo "saved after $took ms"; }
    done
    if [ $code -ne 0 ] || [ $stops -lt 1 ]; then
        status=1
        cat "$tmp/stderr"
    fi
    cmp "$out/checkpoints/last/model.safetensors" "$tmp/whole/checkpoints/last/model.safetensors" || status=1
    verdict $status "$what: stopped in time $stops times, then the uninterrupted run's weights"
}
limit=(--max-time 00:00:02)
limited "$tmp/limit" "--max-time" env SLURM_JOB_ID=77
told "" "without --requeue auto"
limit=(--max-time 1-00:00 --requeue auto)
# shellcheck disable=SC2016 # the inner shell's
limited "$tmp/end" "SLURM_JOB_END_TIME" sh -c 'SLURM_JOB_ID=77 SLURM_JOB_END_TIME=$(($(date +%s) + 2)) exec "$@"' sh
[ "$(wc -l <"$TOLD")" -eq $stops ]
verdict $? "a request to requeue for each stop"
told "requeue 77" "SLURM_JOB_END_TIME"
expect 75 "would again" env SLURM_JOB_ID=77 SLURM_JOB_END_TIME=1000 "$einthoven" pretrain "$tmp/c.yaml" --out "$tmp/late" \
    --set train.steps=1 --requeue auto
told "" "no time for a step"
expect 0 "is no time" env SLURM_JOB_END_TIME=soon "$einthoven" pretrain "$tmp/c.yaml" --out "$tmp/soon" --set train.steps=1

# USR2 again and again: each is a checkpoint.
start "$tmp/usr2"
[ ! -e "$tmp/usr2/checkpoints/last" ]
verdict $? "no checkpoint yet"
for time in 1 2; do
    kill -USR2 $pid
    until_true eval "[ \"\$(grep -c 'saved, as asked by USR2' '$tmp/stderr')\" = $time ]"
done
until_true has_steps "$tmp/usr2" $(($(steps "$tmp/usr2") + 1))
kill -9 $pid
ends 137 "saved, as asked by USR2" "USR2 saves and goes on"
expect 0 "" "$einthoven" inspect "$tmp/usr2/checkpoints/last"
resumes "$tmp/usr2" "saved by USR2, then killed"

export SLURM_JOB_ID=78 SLURM_ARRAY_JOB_ID=77 SLURM_ARRAY_TASK_ID=3
start "$tmp/int" --requeue auto
kill -INT $pid
ends 75 "interrupted by hand" "INT once saves and stops"
told "" "INT"
resumes "$tmp/int" "INT"

# Twice within one step, which the published network makes long.
"$einthoven" -q synth --out "$tmp/slow" --records 60 --seed 5 --rate 500
long=(--set train.steps=9 --set "data.train=$tmp/slow" --set train.batch_size=60)
default=(--set model.base_filters=64 --set 'model.filters=[64, 160, 160, 400, 400, 1024, 1024]'
    --set 'model.blocks=[2, 2, 2, 3, 3, 4, 4]' --set model.kernel_size=16 --set model.group_width=16)
launch "${long[@]}" "${default[@]}" --out "$tmp/twice" --requeue auto &
pid=$!
until_true test -e "$tmp/twice/metrics.jsonl"
sleep 0.7
kill -INT $pid
sleep 0.3
kill -INT $pid
ends 130 "" "INT twice stops at once"
[ "$(steps "$tmp/twice")" = 0 ] && [ ! -e "$tmp/twice/checkpoints/last" ]
verdict $? "in its first step, without a checkpoint"
told "" "INT twice"
long=(--set train.steps="$n")

start "$tmp/term" --requeue auto
for time in 1 2 3; do kill -TERM $pid 2>/dev/null || true; done
ends 75 "scontrol requeue 77_3" "TERM thrice"
told "requeue 77_3" "TERM in an array's task"
resumes "$tmp/term" "TERM"

unset SLURM_ARRAY_JOB_ID SLURM_ARRAY_TASK_ID
start "$tmp/usr1" --requeue auto
kill -USR1 $pid
ends 75 "scontrol requeue 78" "USR1"
told "requeue 78" "USR1"
STATE=SIGNALING start "$tmp/signaling" --requeue auto
kill -USR1 $pid
ends 75 "scontrol requeue 78" "USR1 while Slurm is still signaling"
told "requeue 78" "USR1 while Slurm is still signaling"
STATE=COMPLETING start "$tmp/cancelled" --requeue auto
kill -TERM $pid
ends 75 "Slurm ends or requeues it by itself" "TERM of a cancelled job"
told "" "a cancelled job"
STATE=RUNNING CODE=1 start "$tmp/refused" --requeue auto
kill -TERM $pid
ends 75 "failed (exit code 1)" "scontrol that refuses"
told "requeue 78" "scontrol that refuses"
unset SLURM_JOB_ID
start "$tmp/nojob" --requeue auto
kill -TERM $pid
ends 75 "no Slurm job" "TERM outside Slurm"
told "" "outside Slurm"

# fine-tuning and studies take the same options.
tune=(--weights "$tmp/whole" --set 'head.labels=[sinus_rhythm]' --set train.steps=2)
expect 75 "would again" env SLURM_JOB_ID=77 SLURM_JOB_END_TIME=1000 "$einthoven" finetune "$tmp/c.yaml" "${tune[@]}" \
    --out "$tmp/tuned" --requeue auto
expect 0 "within 3600 s" "$einthoven" finetune "$tmp/c.yaml" "${tune[@]}" --out "$tmp/tuned" --requeue auto --max-time 60 --resume
study=(study "$tmp/c.yaml" "${tune[@]}" --set data.train="{path: $tmp/ecgs, part: [0, 0.5]}" \
    --set data.valid="{path: $tmp/ecgs, part: [0.5, 1]}" --modes full --seeds 2 --out "$tmp/study")
expect 75 "would again" env SLURM_JOB_ID=77 SLURM_JOB_END_TIME=1000 "$einthoven" "${study[@]}" --requeue auto

expect 0 "Slurmctld(primary) at x is UP" "$einthoven" doctor
expect 0 "version: slurm 1.2.3" "$einthoven" doctor
expect 0 "job: 77_3" env SLURM_JOB_ID=78 SLURM_ARRAY_JOB_ID=77 SLURM_ARRAY_TASK_ID=3 "$einthoven" doctor
expect 0 "slurmctld does not answer" env CONTROLLER=DOWN "$einthoven" doctor
finish
