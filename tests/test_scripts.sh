#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The scripts for clusters: shellcheck finds nothing; the Slurm templates do what they say with a stand-in for srun (a
# job ends as einthoven does, an array's parts are a data set together, folds do not overlap); launch_local.sh.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
. tests/support/shell.inc

if command -v shellcheck >/dev/null; then
    shellcheck -x scripts/*.sh scripts/*.sbatch
    verdict $? "shellcheck"
else
    skip "shellcheck is not installed"
fi
for template in scripts/*.sbatch; do
    grep -q '^#SBATCH --time=' "$template" && grep -q '^# Arithmetic' "$template"
    verdict $? "$template has its time and its arithmetic"
done

# srun that runs its command, after noting it (what requeues is einthoven: test_stop.sh); einthoven that trains nothing and ends with $CODE.
mkdir "$tmp/bin" "$tmp/fake"
cat >"$tmp/bin/srun" <<'EOF'
#!/bin/sh
while case $1 in -*) true ;; *) false ;; esac; do shift; done
echo "$@" >>"$TOLD"
exec "$@"
EOF
printf '#!/bin/sh\nexit "${CODE:-0}"\n' >"$tmp/fake/einthoven"
ln -s "$einthoven" "$tmp/bin/einthoven"
chmod +x "$tmp"/bin/* "$tmp/fake/einthoven"
export TOLD=$tmp/told SLURM_CPUS_PER_TASK=1

job() { # CODE TEMPLATE [VARIABLE=VALUE...]: with the program that does nothing
    local template=$2
    : >"$TOLD"
    expect "$1" "" env CODE="$1" PATH="$tmp/fake:$tmp/bin:$PATH" "${@:3}" bash "scripts/$template"
}
told() { # TEXT
    grep -qF -- "$1" "$TOLD"
    verdict $? "told: $1"
}
for template in slurm_cpu slurm_gpu slurm_node slurm_nodes; do
    job 75 $template.sbatch DATA=/d RUN=/r
    told "einthoven pretrain configs/pretrain_12lead.yaml --out /r --resume --requeue auto"
    told "data.train={path: /d, part: [0, 0.95]}"
    job 1 $template.sbatch DATA=/d RUN=/r
done
# A lost rank: requeued where the run had got on.
printf '#!/bin/sh\necho scontrol "$@" >>"$TOLD"\n' >"$tmp/bin/scontrol"
# shellcheck disable=SC2016 # the stand-in's own
printf '#!/bin/sh\n[ "$CODE" != 75 ] && ln -sfn "step-$STEP" "$RUN/checkpoints/last"\nexit "$CODE"\n' >"$tmp/fake/einthoven"
chmod +x "$tmp/bin/scontrol"
mkdir -p "$tmp/r/checkpoints"
for code in 1 137; do
    job $code slurm_nodes.sbatch DATA=/d RUN="$tmp/r" STEP=$code SLURM_JOB_ID=77
    told "scontrol requeue 77"
    job $code slurm_nodes.sbatch DATA=/d RUN="$tmp/r" STEP=$code SLURM_JOB_ID=77
    ! grep -q "scontrol requeue" "$TOLD"
    verdict $? "exit code $code without another checkpoint: not requeued"
done
job 75 slurm_nodes.sbatch DATA=/d RUN="$tmp/r" SLURM_JOB_ID=77
! grep -q "scontrol requeue" "$TOLD"
verdict $? "exit code 75: that is einthoven's to requeue"
job 75 slurm_folds.sbatch DATA=/d RUNS=/r SLURM_ARRAY_TASK_ID=19
told "--out /r/fold-10-seed-2 --resume --requeue auto"
told "data.train={path: /d, fold: [2, 3, 4, 5, 6, 7, 8, 9]}"
told "data.valid={path: /d, fold: 1}"
told "data.test={path: /d, fold: 10}"
job 75 slurm_sweep.sbatch DATA=/d SPACE=/s OUT=/o SLURM_ARRAY_TASK_ID=3
told "einthoven sweep configs/ptbxl_superclass.yaml --space /s --out /o --resume --requeue auto --trials 27 --halving"
told "data.valid={path: /d, fold: 9}"

# Five records in three parts, one part twice.
for i in 1 2 3 4 5; do
    { printf '\0\0'; head -c 1998 "$einthoven"; } >"$tmp/r$i.dat"
    sum=$(od -An -v -td2 "$tmp/r$i.dat" | awk '{ for (i = 1; i <= NF; i++) s += $i } END { s %= 65536; print (s > 32767 ? s - 65536 : s) }')
    printf 'r%d 1 500 1000\nr%d.dat 16 200/mV 16 0 0 %d 0 I\n' $i $i "$sum" >"$tmp/r$i.hea"
    echo "$tmp/r$i" >>"$tmp/records.txt"
done
import() { # TASK
    expect 0 "" env PATH="$tmp/bin:$PATH" LIST="$tmp/records.txt" OUT="$tmp/set" SLURM_ARRAY_TASK_ID="$1" SLURM_ARRAY_TASK_MIN=0 \
        SLURM_ARRAY_TASK_COUNT=3 bash scripts/slurm_import.sbatch
}
for task in 0 1 2 1; do import $task; done
expect 0 '"records": 5' "$einthoven" inspect "$tmp/set" --json
[ -z "$(find "$tmp/set" -name '.part*')" ]
verdict $? "no work is left over"

# shellcheck disable=SC2016 # each rank's own
ranks='echo "$RANK of $WORLD_SIZE at $MASTER_ADDR"; exit $((RANK * 3))'
expect 6 "2: 2 of 3 at 127.0.0.1" scripts/launch_local.sh 3 sh -c "$ranks"
expect 2 "usage" scripts/launch_local.sh 0 true
if [ -x "${EINTHOVEN_TESTS:-}/test_comm" ]; then
    expect 0 "1: rank 1 of 2, local 1, by tcp" scripts/launch_local.sh 2 "$EINTHOVEN_TESTS/test_comm" task sums -1 auto
    # A rank that dies ends the rest.
    EINTHOVEN_COMM_TIMEOUT=5 expect 137 "rank 1 (" scripts/launch_local.sh 2 "$EINTHOVEN_TESTS/test_comm" task kill 1 auto
fi
finish
