#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Several ranks on this machine without Slurm, MPI or Python, by the variables that torchrun sets:
#     scripts/launch_local.sh RANKS COMMAND...
#     scripts/launch_local.sh 2 einthoven pretrain configs/pretrain_12lead.yaml --out runs/a --set train.device=cuda
# On several machines start each rank by hand with RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR (rank 0's host) and MASTER_PORT, or:
#     torchrun --no-python --nnodes=2 --nproc-per-node=8 --rdzv-backend=c10d --rdzv-endpoint=HOST:29400 einthoven pretrain ...
#     mpirun -np 16 --host n1:8,n2:8 einthoven pretrain ...                     (libeinthoven_mpi.so carries the data)
#     mpirun -np 16 --host n1:8,n2:8 -x MASTER_ADDR=n1 einthoven pretrain ...   (without it, over TCP)
# Each output line begins with its rank. Ends with the highest exit code; a signal goes to all ranks.
#
# Arithmetic: RANKS processes share the cores, so each gets cores / RANKS threads (SLURM_CPUS_PER_TASK, where it is not set already).
# The published network's 7.0 GFLOP an ECG and step at 200 GFLOP/s of two cores are 28 ECG/s; of its gradients each of two
# ranks sends 122 MB a step, some 0.1 s through the loopback, so a step should have 100 ECGs or more.
set -euo pipefail
if [ $# -lt 2 ] || ! [ "$1" -ge 1 ] 2>/dev/null; then
    echo "usage: $0 RANKS COMMAND..." >&2
    exit 2
fi
ranks=$1
shift
export WORLD_SIZE=$ranks MASTER_ADDR=127.0.0.1 MASTER_PORT=${MASTER_PORT:-$((20000 + $$ % 12000))}
EINTHOVEN_COMM_TOKEN=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
export EINTHOVEN_COMM_TOKEN
if [ -z "${SLURM_CPUS_PER_TASK:-}" ]; then
    cores=$(nproc)
    export SLURM_CPUS_PER_TASK=$((cores > ranks ? cores / ranks : 1))
fi

pipes=$(mktemp -d)
trap 'rm -rf "$pipes"' EXIT
label() { # RANK NAME: lines from pipe NAME to stdout, each after its rank
    mkfifo "$pipes/$2"
    sed -u "s/^/$1: /" <"$pipes/$2" &
    labels+=($!)
}
pids=() labels=()
for ((rank = 0; rank < ranks; rank++)); do
    label "$rank" "out-$rank"
    label "$rank" "err-$rank" >&2
    RANK=$rank LOCAL_RANK=$rank "$@" >"$pipes/out-$rank" 2>"$pipes/err-$rank" &
    pids+=($!)
done
trap 'kill -TERM "${pids[@]}" 2>/dev/null || true' TERM INT
status=0
for pid in "${pids[@]}"; do
    code=0
    wait "$pid" || code=$?
    # A signal that was passed on ends the wait, not the rank.
    while kill -0 "$pid" 2>/dev/null; do
        code=0
        wait "$pid" || code=$?
    done
    if [ "$code" -gt "$status" ]; then status=$code; fi
done
wait "${labels[@]}"
exit "$status"
