#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# train/comm started by mpirun, over MPI and over TCP, and by hand; launches that are broken. The ranks are test_comm's
# (tests/support/ranks.h says what they do).
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
. tests/support/shell.inc
ranks=${EINTHOVEN_TESTS:?is set by scripts/run_tests.sh}/test_comm
plugin=$PWD/build/libeinthoven_mpi.so
unset "${!SLURM_@}" "${!OMPI_@}" "${!PMI@}" RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR MASTER_PORT

# What mpirun needs where it runs as root and on fewer cores than ranks.
mpirun=(mpirun --oversubscribe)
if [ "$(id -u)" = 0 ]; then mpirun+=(--allow-run-as-root); fi
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_btl_vader_single_copy_mechanism=none
export EINTHOVEN_COMM_START=60
# OpenMPI keeps memory until the process ends.
if is_sanitized; then export ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0"; fi

sums() { # RANKS BACKEND SAID
    "${mpirun[@]}" -np "$1" "$ranks" task sums -1 "$2" >"$tmp/stdout" 2>"$tmp/stderr" &&
        [ "$(grep -c "^rank [0-9]* of $1, local [0-9]*, by $3\$" "$tmp/stdout")" = "$1" ]
    verdict $? "mpirun -np $1, backend $2: every operation, bit for bit, by $3"
}

# The task of rank VICTIM ends all of 3 ranks under mpirun in time, with exit code not 0, and TEXT is said.
broken() { # TASK VICTIM TEXT SECONDS
    local status=0 start=$SECONDS
    timeout 60 "${mpirun[@]}" -np 3 "$ranks" task "$1" "$2" mpi >"$tmp/stdout" 2>"$tmp/stderr" || status=$?
    if [ "$status" != 0 ] && [ "$status" != 124 ] && grep -qF -- "$3" "$tmp/stderr" &&
        [ $((SECONDS - start)) -le "$4" ]; then
        ok "mpirun, rank $2 by \"$1\": \"$3\""
    else
        bad "mpirun, rank $2 by \"$1\": exit $status after $((SECONDS - start)) s, wanted \"$3\" in:"
        head -c 3000 "$tmp/stderr"
    fi
    # Nobody is left over, not the stopped one either.
    if pgrep -f -- "$ranks task $1 $2 mpi" >"$tmp/left"; then bad "ranks are left over: $(tr '\n' ' ' <"$tmp/left")"; fi
}

if ! command -v mpirun >/dev/null; then
    skip "MPI: no mpirun (openmpi-bin)"
elif [ ! -e "$plugin" ]; then
    skip "MPI: build/libeinthoven_mpi.so is not built (libopenmpi-dev)"
elif ! "${mpirun[@]}" -np 1 true 2>"$tmp/stderr"; then
    skip "MPI: mpirun does not run here: $(grep -v '^[- ]*$' "$tmp/stderr" | head -n 1)"
else
    export EINTHOVEN_MPI_LIB=$plugin
    sums 1 mpi mpi
    sums 2 mpi mpi
    sums 4 auto mpi
    sums 3 tcp tcp
    EINTHOVEN_MPI_LIB=$tmp/none sums 2 auto tcp
    export EINTHOVEN_COMM_TIMEOUT=3 EINTHOVEN_COMM_STALL=60
    broken abort 1 "stopped: the disk is full" 20
    broken stop 2 "rank 2 (" 20
    broken mismatch 1 "not in the same operation" 20
    # mpirun itself says which process was killed, and ends the rest.
    broken kill 1 "rank 1" 20
    unset EINTHOVEN_COMM_TIMEOUT EINTHOVEN_COMM_STALL
    # Two processes that MPI does not connect: each would be rank 0 of 1.
    expect 1 "broken launch: MPI says rank 0 of 1, but torchrun says rank 1 of 2" \
        env RANK=1 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 "$ranks" task sums -1 mpi
    expect 0 "rank 0 of 1" "$ranks" task sums -1 mpi
    EINTHOVEN_MPI_LIB=$tmp/none expect 1 "EINTHOVEN_MPI_LIB=$tmp/none" "$ranks" task sums -1 mpi
    echo junk >"$tmp/junk.so"
    EINTHOVEN_MPI_LIB=$tmp/junk.so expect 1 "or use backend tcp" "$ranks" task sums -1 mpi
fi

# By hand, as torchrun does it: one variable set for each process.
port=$((21000 + $$ % 9000))
RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 MASTER_ADDR=127.0.0.1 MASTER_PORT=$port "$ranks" task sums -1 auto >"$tmp/one" 2>&1 &
RANK=0 WORLD_SIZE=2 LOCAL_RANK=0 MASTER_ADDR=127.0.0.1 MASTER_PORT=$port expect 0 "rank 0 of 2, local 0, by tcp" "$ranks" task sums -1 auto
wait $!
verdict $? "and its rank 1"
expect 0 "rank 0 of 1, local 0, by single" "$ranks" task sums -1 auto
SLURM_JOB_ID=1 SLURM_NTASKS=4 SLURM_PROCID=0 expect 0 "put srun before it" "$ranks" task sums -1 auto
SLURM_PROCID=2 SLURM_STEP_NUM_TASKS=4 RANK=0 WORLD_SIZE=1 expect 1 "broken launch" "$ranks" task sums -1 auto
finish
