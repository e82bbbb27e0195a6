#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Jobs of scripts/slurm_cpu.sbatch, and of slurm_nodes.sbatch with two ranks on the CPU, under a real Slurm of two nodes on this machine
# (tests/support/slurm.inc): left alone, preempted by a higher partition, warned of the time limit, requeued by hand, a node lost.
# Each ends, after its requeues, with the weights of the undisturbed run without Slurm, bit for bit.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
. tests/support/shell.inc
. tests/support/slurm.inc

reason=$(slurm_reason)
if [ -n "$reason" ]; then
    skip "Slurm: $reason"
    finish
    exit
fi
slurm_apart
trap 'exit 143' TERM INT HUP
# A node is all that its first process started, and lost when that is killed.
slurm_node() {
    unshare --mount --pid --fork --kill-child --mount-proc sh -c "mount -t tmpfs tmpfs /tmp && mount --bind $slurm/hosts /etc/hosts && exec slurmd -D -N $1" 2>"$slurm/node.$1.log" &
    echo $! >"$slurm/node.$1"
    disown
}
slurm_timeout=10
if ! slurm_up; then
    bad "Slurm does not start"
    finish
    exit 1
fi

# What jobs use lies where both nodes see it.
mkdir "$slurm/bin"
cp "$einthoven" "$slurm/bin/einthoven"
cp scripts/slurm_cpu.sbatch scripts/launch_local.sh "$slurm"
sed '/gpus/d; s/device=cuda/device=cpu/; s/precision=bf16/precision=fp32/; s/--wait=120/--wait=5/' scripts/slurm_nodes.sbatch >"$slurm/slurm_nodes.sbatch"
export PATH=$slurm/bin:$PATH DATA=$slurm/ecgs CONFIG=$slurm/c.yaml
cd "$slurm" || exit 1
einthoven -q synth --out "$DATA" --records 200 --seed 5 --rate 100
config() { # STEPS
    cat >"$CONFIG" <<CONFIG
model: {base_filters: 16, filters: [16, 32], blocks: [1, 2], kernel_size: 8, batch_norm: true, dropout: 0.2, drop_path: 0.1}
optim: {name: adamw, lr: 1e-3}
schedule: {name: cosine, warmup: 0.1}
train: {batch_size: 16, threads: 1, accumulate: 1, epochs: 0, steps: $1, save_every: 25}
CONFIG
}
undisturbed() { # OUT [LAUNCHER...]
    "${@:2}" einthoven -q pretrain "$CONFIG" --out "$1" --set train.device=cpu --set data.train="{path: $DATA, part: [0, 0.95]}" \
        --set data.valid="{path: $DATA, part: [0.95, 1]}" 2>"$tmp/stderr" || cat "$tmp/stderr"
}
sum_of() { sha256sum <"$1/checkpoints/last/model.safetensors"; }

# A run of about ten seconds.
config 100
began=$(date +%s%N)
undisturbed "$slurm/rate"
steps=$((100 * 10000 / (($(date +%s%N) - began) / 1000000 + 1)))
config $steps
undisturbed "$slurm/whole"
whole=$(sum_of "$slurm/whole")
[ -e "$slurm/whole/checkpoints/last" ]
verdict $? "the undisturbed run: $steps steps, $whole"

# ------------------------------------------------------------------ jobs

field() { scontrol -o show job "$job" | grep -o " $1=[^ ]*" | cut -d= -f2; }
within() { # SECONDS COMMAND...: whether it succeeds in that time
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.3
    done
}
trained() { # STEPS
    [ -e "$RUN/metrics.jsonl" ] && [ "$(grep -c '"kind":"train"' "$RUN/metrics.jsonl")" -ge "$1" ]
}
task() { pgrep -f "^[^ ]*einthoven pretrain .*--out $RUN " | tail -n 1; }
no_task() { [ -z "$(task)" ]; }
template=slurm_cpu.sbatch
# Submits a job and waits until it has done some steps: sets job, RUN and log.
submit() { # NAME ARGUMENT...
    name=$1 began=$SECONDS
    shift
    export RUN=$slurm/run-$name
    log=$slurm/$name.log
    job=$(sbatch --parsable --mem=100 --cpus-per-task=1 --output="$log" "$@" "$slurm/$template")
    within 60 trained 30 || bad "$name: job $job does not train: $(field JobState) $(tail -n 3 "$log")"
}
over() {
    local state
    state=$(field JobState)
    # A requeued job waits two minutes for what went wrong to be put right. Some of it is needed: a node takes no job that was
    # ended there in the same second.
    if [ "$state" = PENDING ]; then
        sleep 3
        scontrol update job="$job" starttime=now 2>/dev/null
    fi
    case $state in COMPLETED | FAILED | CANCELLED | TIMEOUT | NODE_FAIL | OUT_OF_MEMORY | PREEMPTED) ;; *) false ;; esac
}
told() { # TEXT
    grep -qF -- "$1" "$log"
    verdict $? "$name: the log says \"$1\""
}
restarts() { [ "$(field Restarts)" -ge 1 ]; }
ends() { # LEAST RESTARTS
    local status=0 sum
    within 150 over || status=1
    [ "$(field JobState)" = COMPLETED ] && [ "$(field Restarts)" -ge "$1" ] || status=1
    sum=$(sum_of "$RUN")
    [ "$sum" = "$whole" ] || status=1
    [ "$(grep -c '"kind":"train"' "$RUN/metrics.jsonl")" = $steps ] || status=1
    [ $status -eq 0 ] || tail -n 20 "$log" "$slurm/slurmctld.log"
    verdict $status "$name: job $job $(field JobState) after $(field Restarts) requeues, $((SECONDS - began)) s, $sum"
}

submit alone
ends 0

preempt() {
    local high
    high=$(sbatch --parsable -p high -N2 --exclusive --mem=100 --output=/dev/null --wrap "sleep 1")
    within 60 restarts || bad "$name: it was not requeued"
    told "scontrol requeue $job"
    ends 1
    [ "$(slurm_state "$high")" = COMPLETED ]
    verdict $? "$name: job $high took its place"
}
submit preempted
preempt

# Held, so that it can't be finished before the warning comes; Slurm lets it go on (SIGCONT) to hear that.
submit limit --time=1 --signal=USR1@50
held=$(task)
kill -STOP "$held"
within 90 restarts
verdict $? "limit: USR1 came $((SECONDS - began)) s after the job was submitted"
told "scontrol requeue $job"
ends 1

submit requeued
scontrol requeue "$job"
within 60 restarts || bad "requeued: it was not requeued"
ends 1
told "state saved"

lose() { # NODE
    kill -9 "$(cat "$slurm/node.$1")"
    within 30 no_task
    verdict $? "$name: the node $1 is gone, and the job's tasks"
}
submit lost
host=$(field BatchHost)
lose "$host"
ends 1
[ "$(field BatchHost)" != "$host" ]
verdict $? "lost: it went on on another node than $host"
slurm_node "$host"
both_idle() { [ "$(sinfo -h -p low -t idle -o %D)" = 2 ]; }
within 60 both_idle
verdict $? "$host is back"

# Two ranks, each on a node.
undisturbed "$slurm/whole2" "$slurm/launch_local.sh" 2
whole=$(sum_of "$slurm/whole2")
[ -e "$slurm/whole2/checkpoints/last" ]
verdict $? "the undisturbed run of two ranks: $whole"
template=slurm_nodes.sbatch
ranks=(--nodes=2 --ntasks-per-node=1)
export EINTHOVEN_COMM_TIMEOUT=5
submit ranks-preempted "${ranks[@]}"
preempt
# The node without the batch script: that is there to requeue.
submit ranks-lost "${ranks[@]}"
host=n2
[ "$(field BatchHost)" = n1 ] || host=n1
lose $host
slurm_node $host
ends 1
finish
