#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# train/comm under a real Slurm of two nodes on this machine (tests/support/slurm.inc): ranks by srun over TCP and over MPI, broken
# launches, ranks that die and hang; the job templates are accepted. The ranks are test_comm's.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
. tests/support/shell.inc
. tests/support/slurm.inc
: "${EINTHOVEN_TESTS:?is set by scripts/run_tests.sh}"
ranks=$(realpath "$EINTHOVEN_TESTS/test_comm")
export EINTHOVEN_MPI_LIB=$PWD/build/libeinthoven_mpi.so
export OMPI_MCA_btl=self,tcp # two nodes that share one machine's memory

reason=$(slurm_reason)
if [ -n "$reason" ]; then
    skip "Slurm: $reason"
    finish
    exit
fi
slurm_apart
trap 'exit 143' TERM INT HUP
if ! slurm_up; then
    bad "Slurm does not start"
    finish
    exit 1
fi

export EINTHOVEN_COMM_START=30
said() { # TEXT COUNT WHAT
    [ "$(grep -cE -- "$1" "$tmp/stdout")" = "$2" ]
    verdict $? "$3"
}
expect 0 "" srun -N2 -n4 --ntasks-per-node=2 "$ranks" task sums -1 auto
said '^rank [0-3] of 4, local 0, by tcp$' 2 "a local rank 0 on each node"
said '^rank [0-3] of 4, local 1, by tcp$' 2 "a local rank 1 on each node"
expect 0 "rank 0 of 1, local 0, by single" srun -n1 "$ranks" task sums -1 auto
if [ -e "$EINTHOVEN_MPI_LIB" ] && srun --mpi=list 2>&1 | grep -q pmix; then
    expect 0 "rank 1 of 2, local 0, by mpi" srun --mpi=pmix -N2 -n2 "$ranks" task sums -1 mpi
else
    skip "MPI under Slurm: no plug-in, or Slurm without PMIx"
fi

# A job's tasks must not all be rank 0 of 1.
expect 1 "broken launch: srun says rank" srun -n2 env RANK=0 WORLD_SIZE=1 "$ranks" task sums -1 auto
expect 1 "backend single, but srun started 2 processes" srun -n2 "$ranks" task sums -1 single

export EINTHOVEN_COMM_TIMEOUT=5
expect 137 "rank 2 (" srun -N2 -n4 "$ranks" task kill 2 auto
expect 74 "stopped: the disk is full" srun -N2 -n4 "$ranks" task abort 1 auto # the highest code: rank 1's own
expect 137 "rank 3 (" timeout 60 srun -N2 -n4 --wait=12 "$ranks" task stop 3 auto

# A batch script that forgets srun: one process, and a word of warning.
cat >"$slurm/forgot.sh" <<EOF
#!/bin/sh
#SBATCH -N2 -n4
exec "$ranks" task sums -1 auto
EOF
job=$(sbatch --parsable --wait --output="$slurm/forgot.log" "$slurm/forgot.sh")
grep -q "put srun before it" "$slurm/forgot.log" && grep -q "rank 0 of 1" "$slurm/forgot.log"
verdict $? "sbatch without srun (job $job) runs alone and is told so"

export DATA=/d RUN=/r RUNS=/r LIST=/l OUT=/o
for template in scripts/*.sbatch; do
    grep -q gpus "$template" && continue # these nodes have none
    expect 0 "to start at" sbatch --test-only --mem=100 --cpus-per-task=1 "$template"
done
finish
