#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs that save after every step are killed (SIGKILL) again and again at random moments, also while a checkpoint is being
# written, and resumed each time on other numbers of threads and workers. Weights, metrics.jsonl (but for the timing) and the
# links `last` and `best` must end as the uninterrupted run's. SEED=N draws other moments.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/support/shell.inc
. tests/support/shell.inc

draw_from "${SEED:-1}"
kills_wanted=16 # a recipe
kills=0 while_writing=0

"$einthoven" -q synth --out "$tmp/ecgs" --records 90 --seed 5 --rate 100
cat >"$tmp/c.yaml" <<CONFIG
model: {base_filters: 8, filters: [8, 16], blocks: [1, 2], kernel_size: 5, group_width: 8}
data: {train: {path: $tmp/ecgs, part: [0, 0.6]}}
train: {batch_size: 8, epochs: 4, save_every: 1}
CONFIG
valid=(--set data.valid="{path: $tmp/ecgs, part: [0.6, 1]}")
noise=(--set model.dropout=0.2 --set model.drop_path=0.2)

# In the background $! must be the program itself, so that a signal reaches it: hence exec.
launch() { # COMMAND OUT ARGUMENT...
    local command=$1 out=$2
    shift 2
    [ "$command" = finetune ] && set -- --weights "$tmp/base" "$@"
    exec "$einthoven" -q "$command" "$tmp/c.yaml" --out "$out" "$@" >>"$tmp/log" 2>&1
}
# metrics.jsonl without the timing
lines() { sed 's/,"ecg_per_s":[^}]*//' "$1/metrics.jsonl"; }
milliseconds() { echo $(($(date +%s%N) / 1000000)); }
# What a resumed run may change.
machine() {
    local threads workers
    draw threads 1 2 3 4
    draw workers 1 2 3
    other=(--set train.threads="$threads" --set data.workers="$workers")
}

# Kills and resumes until the run is finished or has been hit often enough; whatever stands there in between must be whole.
# A moment lies within SPAN milliseconds, most of what the whole run takes, on a machine of any speed.
kill_often() { # SPAN COMMAND OUT ARGUMENT...
    local span=$1 out=$3 code=137 pid nap
    shift
    while [ $hits -lt $kills_wanted ]; do
        machine
        launch "$@" --resume "${other[@]}" &
        pid=$!
        draw_below nap "$span"
        sleep "$((nap / 1000)).$(printf '%03d' $((nap % 1000)))"
        kill -9 $pid 2>/dev/null || true
        code=0
        wait $pid 2>/dev/null || code=$?
        [ $code -eq 137 ] || break
        hits=$((hits + 1))
        [ -e "$out/checkpoints/.writing" ] && while_writing=$((while_writing + 1))
        if [ -L "$out/checkpoints/last" ]; then
            "$einthoven" inspect "$out/checkpoints/last" >/dev/null 2>>"$tmp/log" || broken=$((broken + 1))
        fi
    done
    [ $code -eq 137 ] || [ $code -eq 0 ] || broken=$((broken + 1))
}

# Sets status: weights, states, links, metrics and files of the run that was killed and of the whole one.
compare() { # OUT WHOLE
    local out=$1 whole=$2 link
    for link in last best; do
        [ "$(readlink "$out/checkpoints/$link")" = "$(readlink "$whole/checkpoints/$link")" ] || status=1
    done
    for link in last/model.safetensors last/state.safetensors last/state.json best/model.safetensors; do
        cmp "$out/checkpoints/$link" "$whole/checkpoints/$link" || status=1
    done
    diff <(lines "$out") <(lines "$whole") || status=1
    diff <(cd "$out" && find . | sort) <(cd "$whole" && find . | sort) || status=1
}

# Runs that finish before they are hit often enough are followed by further ones.
soak() { # NAME COMMAND ARGUMENT...
    local name=$1 command=$2 whole=$tmp/whole out=$tmp/killed status=0 hits=0 broken=0 runs span
    shift 2
    rm -rf "$whole"
    : >"$tmp/log"
    span=$(milliseconds)
    (launch "$command" "$whole" "$@") || { tail "$tmp/log"; bad "$name: does not train"; return; }
    span=$((($(milliseconds) - span) * 3 / 4 + 10))
    for ((runs = 0; runs < 40 && hits < kills_wanted; runs++)); do
        rm -rf "$out"
        kill_often $span "$command" "$out" "$@"
        (launch "$command" "$out" "$@" --resume) || status=1
        compare "$out" "$whole"
    done
    kills=$((kills + hits))
    [ $hits -ge $kills_wanted ] || { status=1; echo "hit $hits times only"; }
    [ $status -eq 0 ] && [ $broken -eq 0 ] || tail -n 5 "$tmp/log"
    verdict $broken "$name: what a kill leaves is whole"
    verdict $status "$name: the uninterrupted run's weights, state, metrics and files \
($hits kills of $runs runs, best $(readlink "$whole/checkpoints/best"))"
}

(launch pretrain "$tmp/base" "${valid[@]}" --set model.batch_norm=true --set train.epochs=1)

soak "pretrain, onecycle" pretrain "${valid[@]}" "${noise[@]}" --set model.batch_norm=true --set schedule.name=onecycle \
    --set train.clip_norm=1
soak "pretrain, cosine, accumulate, no validation" pretrain "${noise[@]}" --set optim.name=sgd --set optim.momentum=0.9 \
    --set schedule.name=cosine --set schedule.warmup=0.2 --set train.accumulate=3
soak "pretrain, plateau, early stop" pretrain "${valid[@]}" --set schedule.name=plateau --set schedule.patience=0 \
    --set train.eval_every=2 --set train.early_stop=6 --set optim.lr=0.03
soak "pretrain, targets, saves every 3 steps" pretrain "${valid[@]}" "${noise[@]}" --set loss.name=mse \
    --set 'data.targets=[age]' --set optim.name=adam --set optim.lr=0.1 --set train.save_every=3 --set train.eval_every=4
soak "linear probe, label" finetune "${valid[@]}" "${noise[@]}" --set head.freeze=true --set 'head.labels=[sinus_rhythm]'
soak "linear probe, target" finetune --set head.freeze=true --set 'head.targets=[age]' --set schedule.name=onecycle
soak "fine-tuning in full, label" finetune "${valid[@]}" "${noise[@]}" --set 'head.labels=[sinus_rhythm]' \
    --set optim.backbone_lr=3e-4 --set schedule.name=step --set schedule.step_epochs=1 --set train.accumulate=2
soak "fine-tuning in full, target, plateau, test" finetune "${valid[@]}" "${noise[@]}" --set 'head.targets=[age]' \
    --set loss.name=huber --set schedule.name=plateau --set schedule.patience=1 --set train.eval_every=3 \
    --set data.test="{path: $tmp/ecgs, part: [0.6, 1]}"

status=0
[ $while_writing -gt 0 ] || status=1
verdict $status "$kills kills, $while_writing of them while a checkpoint was being written"
finish
