#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The program on device cuda, emulated, beside device cpu: training, fine-tuning, evaluation, prediction, embedding; and what it
# says where CUDA can't be used.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/support/shell.inc
. tests/support/shell.inc

plugin=$PWD/build/emu/libeinthoven_cuda.so
unless_sanitized "the emulation has sanitized builds of its own"

# Without a plug-in, with a broken one, with something else: exit code 1 and what to do.
mkdir "$tmp/alone" && cp "$einthoven" "$tmp/alone/einthoven"
unset EINTHOVEN_CUDA_LIB
expect 1 'build it with "make cuda" (needs nvcc), or use device cpu' "$tmp/alone/einthoven" selftest --device cuda
expect 1 "EINTHOVEN_CUDA_LIB=$tmp/none: No such file" env EINTHOVEN_CUDA_LIB="$tmp/none" "$einthoven" selftest --device cuda
echo nonsense >"$tmp/broken.so"
expect 1 "can't be loaded" env EINTHOVEN_CUDA_LIB="$tmp/broken.so" "$einthoven" selftest --device cuda
expect 0 "make cuda" "$tmp/alone/einthoven" doctor
expect 0 '"problem": "device cuda: the CUDA backend' "$tmp/alone/einthoven" doctor --json
if readelf -d "$einthoven" | grep -qE 'NEEDED.*(cuda|cublas|cudnn|nccl)'; then bad "needs a CUDA library"; else ok "needs no CUDA library"; fi

if [ ! -e "$plugin" ]; then
    skip "the emulated CUDA backend is not built: make emu"
    finish
    exit
fi
# Beside the program, and in PREFIX/lib/einthoven.
cp "$plugin" "$tmp/alone/"
expect 0 "CUDA emulation" "$tmp/alone/einthoven" doctor
mkdir -p "$tmp/prefix/bin" "$tmp/prefix/lib/einthoven"
mv "$tmp/alone/einthoven" "$tmp/prefix/bin/" && mv "$tmp/alone/libeinthoven_cuda.so" "$tmp/prefix/lib/einthoven/"
expect 0 "prefix/lib/einthoven/libeinthoven_cuda.so" "$tmp/prefix/bin/einthoven" doctor

export EINTHOVEN_CUDA_LIB=$plugin
"$einthoven" -q synth --out "$tmp/ecgs" --records 60 --seed 5 --rate 100 --length 3
cat >"$tmp/c.yaml" <<CONFIG
model: {base_filters: 16, filters: [16, 32], blocks: [1, 2], batch_norm: true, dropout: 0.2, drop_path: 0.1}
data:
  train: {path: $tmp/ecgs, part: [0, 0.7]}
  valid: {path: $tmp/ecgs, part: [0.7, 1]}
optim: {name: adamw, lr: 1e-3}
train: {batch_size: 12, accumulate: 2, steps: 3, eval_every: 3, clip_norm: 0.2}
CONFIG
pretrain() { # DEVICE PRECISION STEPS OUT...
    "$einthoven" -q pretrain "$tmp/c.yaml" --set train.device="$1" --set train.precision="$2" --set train.steps="$3" --out "${@:4}"
}
losses() { grep -oE '"loss":[^,]*' "$1/metrics.jsonl" | cut -d: -f2; }
# The largest difference of two lists of numbers, as a share of the second's; fails unless at most BOUND (NaN does).
close_to() { # WHAT BOUND FILE FILE
    local worst
    worst=$(paste -d' ' "$3" "$4" | awk '
        $1 !~ /^-?[0-9.]+(e[-+]?[0-9]+)?$/ || $2 !~ /^-?[0-9.]+(e[-+]?[0-9]+)?$/ { print "not numbers"; bad = 1; exit }
        { d = $1 - $2; s = $2; if (d < 0) d = -d; if (s < 0) s = -s; if (s < 1) s = 1; if (d / s > w) w = d / s }
        END { if (!bad) print NR ? w + 0 : "nothing" }')
    if awk -v w="$worst" -v b="$2" 'BEGIN { exit !(w ~ /^[0-9.e+-]+$/ && w + 0 <= b + 0) }'; then
        ok "$1: off by $worst at most (bound $2)"
    else
        bad "$1: off by $worst (bound $2)"
    fi
}
for precision in fp32 bf16; do
    bound=1e-4
    [ $precision = bf16 ] && bound=1e-2
    for device in cpu cuda; do
        pretrain $device $precision 3 "$tmp/$device-$precision" 2>>"$tmp/log" || cat "$tmp/log"
        losses "$tmp/$device-$precision" >"$tmp/$device-$precision.losses"
    done
    close_to "losses of 3 steps and of the validation, $precision" $bound "$tmp/cuda-$precision.losses" "$tmp/cpu-$precision.losses"
done

# The same run again, on two threads of the host: the same bytes.
EMU_THREADS=2 pretrain cuda fp32 3 "$tmp/again" 2>>"$tmp/log"
status=0; cmp -s "$tmp/again/checkpoints/last/model.safetensors" "$tmp/cuda-fp32/checkpoints/last/model.safetensors" || status=1
verdict $status "a second run on cuda: the same bytes"

# Passes as CUDA graphs or not, each stream's work at once, as late as it may be or at random: the same bytes after 20 steps,
# in which the last batch of an epoch is smaller (2 of 42 records), and validations come in between.
cat >"$tmp/g.yaml" <<CONFIG
model: {base_filters: 16, filters: [16, 32], blocks: [1, 2]}
data:
  train: {path: $tmp/ecgs, part: [0, 0.7]}
  valid: {path: $tmp/ecgs, part: [0.7, 1]}
optim: {name: adamw, lr: 1e-3}
train: {device: cuda, batch_size: 10, steps: 20, clip_norm: 0.2}
CONFIG
of_20() { # OUT SET...
    "$einthoven" -q pretrain "$tmp/g.yaml" --out "$tmp/$1" "${@:2}" 2>"$tmp/$1.log" || { cat "$tmp/$1.log"; bad "$1"; }
}
same_run() { # WHAT OUT OUT
    local file status=0
    for file in model state; do
        cmp -s "$tmp/$2/checkpoints/last/$file.safetensors" "$tmp/$3/checkpoints/last/$file.safetensors" || status=1
    done
    cmp -s <(losses "$tmp/$2") <(losses "$tmp/$3") || status=1
    verdict $status "$1"
}
for precision in fp32 bf16; do
    for norm in true false; do
        for parts in 1 2; do
            sets=(--set train.precision=$precision --set model.batch_norm=$norm --set train.accumulate=$parts)
            name=$precision-$norm-$parts
            of_20 "plain-$name" --set train.cuda_graph=false "${sets[@]}"
            EMU_ORDER=reverse of_20 "late-$name" "${sets[@]}"
            same_run "graphs, $precision, BN $norm, in $parts parts: the same run" "late-$name" "plain-$name"
        done
    done
done
EMU_ORDER=random:5 of_20 random --set model.batch_norm=true --set train.accumulate=2
same_run "graphs, streams at random: the same run" random plain-fp32-true-2
EMU_GRAPHS=0 of_20 without --set model.batch_norm=true
same_run "no graphs to be had: the same run" without plain-fp32-true-1
status=0; [ "$(grep -c "can't be a CUDA graph" "$tmp/without.log")" = 1 ] || status=1
verdict $status "and one line that says so"
# Stopped once it has recorded, and resumed without graphs.
"$einthoven" -q pretrain "$tmp/g.yaml" --out "$tmp/stopped" --set model.batch_norm=true --set train.save_every=1 2>>"$tmp/log" &
pid=$!
for _ in $(seq 600); do [ "$(grep -c '"train"' "$tmp/stopped/metrics.jsonl" 2>/dev/null)" -ge 7 ] 2>/dev/null && break; sleep 0.02; done
kill -TERM $pid 2>/dev/null || true
code=0; wait $pid || code=$?
status=0; { [ $code -eq 75 ] || [ $code -eq 0 ]; } || status=1
verdict $status "SIGTERM ends with 75 (or 0 when it was done already): $code"
of_20 stopped --resume --set train.cuda_graph=false --set model.batch_norm=true --set train.save_every=1
same_run "stopped with graphs and resumed without: the same run" stopped plain-fp32-true-1
# kernels.conv: what is missing is named; auto goes on without it, and its choices are kept.
export XDG_CACHE_HOME=$tmp/cache
conv() { # HOW [VARIABLE=VALUE...]: plan, which asks for the scratch memory of every convolution, of a network of one block
    env "${@:2}" "$einthoven" plan "$tmp/c.yaml" --set train.device=cuda --set train.precision=bf16 --set kernels.conv="$1" \
        --set "model.filters=[16]" --set "model.blocks=[1]" --set train.batch_size=4
}
expect 78 "kernels.conv" conv fastest
expect 1 "cuDNN can't be opened: /nowhere/libcudnn.so.9" conv cudnn EMU_LIBRARIES=no-cudnn
expect 1 "cuBLAS can't be opened" conv cudnn EMU_LIBRARIES=none
expect 1 "EINTHOVEN_CUDA_CONV=some is not" conv custom EINTHOVEN_CUDA_CONV=some
expect 0 "kernels.conv auto: custom for all convolutions (kernels.conv: cuBLAS can't be opened" conv auto EMU_LIBRARIES=none
expect 0 "CUDA" "$einthoven" doctor
expect 0 "us: custom (results differ)" conv auto EMU_LIBRARIES=wrong
choices=$(echo "$tmp"/cache/einthoven/conv-CUDA_emulation-driver-*.txt)
[ -s "$choices" ] && status=0 || status=1
verdict $status "the choices are in a file"
if grep -q '^bf16 1 ' "$choices"; then bad "half a batch is tried by itself"; else ok "a batch of 2 serves 1 too"; fi
expect 0 "choices from $choices" conv auto
if grep -q ' cudnn ' "$choices"; then bad "choices are made again"; else ok "kept choices stay"; fi
cp "$choices" "$tmp/choices"
for damage in 'sed -i 3s/custom/cudnn/' 'truncate -s -3' 'truncate -s 0' 'sed -i 2d' 'truncate -s 5M' 'sed -i 1s/1$/0/' \
    'sed -i 2s/bf16/\x00\xff/'; do
    cp "$tmp/choices" "$choices"
    $damage "$choices"
    expect 0 "is damaged: its choices are made anew" conv auto
    tail -n 1 "$choices" | grep -q '^sum ' && ! cmp -s "$choices" "$tmp/choices" && status=0 || status=1
    verdict $status "after $damage: a whole file again"
done
if ls "$tmp"/cache/einthoven/*.tmp 2>/dev/null; then bad "a temporary file is left"; else ok "no temporary file is left"; fi
expect 0 "no cache folder" conv auto -u HOME XDG_CACHE_HOME=
expect 0 "no cache folder" conv auto -u HOME XDG_CACHE_HOME=/proc
for how in cudnn auto; do
    "$einthoven" -q pretrain "$tmp/c.yaml" --set train.device=cuda --set train.precision=bf16 --set train.steps=5 \
        --set kernels.conv=$how --out "$tmp/$how" 2>>"$tmp/log" || tail -n 3 "$tmp/log"
    losses "$tmp/$how" >"$tmp/$how.losses"
done
pretrain cuda bf16 5 "$tmp/custom" 2>>"$tmp/log"
losses "$tmp/custom" >"$tmp/custom.losses"
close_to "losses of 5 steps, cudnn beside custom" 1e-2 "$tmp/cudnn.losses" "$tmp/custom.losses"
close_to "losses of 5 steps, auto beside custom" 1e-2 "$tmp/auto.losses" "$tmp/custom.losses"

# The cpu's weights on both devices.
weights=$tmp/cpu-fp32
embeddings() { # IN OUT: the numbers of an HDF5 file, one a line
    /usr/bin/python3 -c 'import h5py, sys
for v in h5py.File(sys.argv[1])["embedding"][:].ravel(): print(repr(float(v)))' "$1" >"$2" 2>>"$tmp/log"
}
for device in cpu cuda; do
    run() { "$einthoven" -q "$@" 2>>"$tmp/log" || { tail -n 3 "$tmp/log"; bad "$1 on $device"; }; }
    run predict --weights "$weights" --data "$tmp/ecgs" --device $device --out "$tmp/p-$device.csv"
    tail -n +2 "$tmp/p-$device.csv" | cut -d, -f2- | tr ',' '\n' >"$tmp/p-$device"
    run evaluate --weights "$weights" --data "$tmp/ecgs" --device $device --out "$tmp/e-$device" >/dev/null
    # Not what hangs on a threshold: that is one of the records' own numbers, and a last bit may pass it.
    grep -E '"(auroc|auprc|brier)": [0-9]' "$tmp/e-$device/metrics.json" | grep -oE '[0-9][0-9.e-]*' >"$tmp/e-$device.numbers"
    run embed --weights "$weights" --data "$tmp/ecgs" --device $device --out "$tmp/m-$device.h5"
    run finetune "$tmp/c.yaml" --weights "$weights" --set train.device=$device --set head.freeze=true --set model.pool=attention \
        --set "head.labels=[pvc, lbbb]" --out "$tmp/f-$device"
    losses "$tmp/f-$device" >"$tmp/f-$device.losses"
done
close_to "predictions" 1e-4 "$tmp/p-cuda" "$tmp/p-cpu"
close_to "metrics" 1e-3 "$tmp/e-cuda.numbers" "$tmp/e-cpu.numbers"
close_to "losses of a linear probe" 1e-4 "$tmp/f-cuda.losses" "$tmp/f-cpu.losses"
if embeddings "$tmp/m-cpu.h5" "$tmp/m-cpu"; then
    status=0; embeddings "$tmp/m-cuda.h5" "$tmp/m-cuda" || status=1
    verdict $status "embeddings on cuda"
    close_to "embeddings" 1e-4 "$tmp/m-cuda" "$tmp/m-cpu"
else
    skip "embeddings: no h5py to read them with"
fi
finish
