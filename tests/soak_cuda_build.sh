#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What nvcc makes of the CUDA backend: no warning, no spill, tensor-core instructions in every kernel that multiplies; and what
# the program says where there is no driver.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/support/shell.inc
. tests/support/shell.inc

nvcc=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
if [ ! -x "$nvcc" ]; then
    skip "no nvcc ($nvcc)"
    finish
    exit
fi

make=(env -u MAKEFLAGS -u MAKELEVEL make) # as from a shell
start=$SECONDS status=0
"${make[@]}" cuda >"$tmp/build" 2>&1 || status=1
[ $status = 0 ] || tail -n 20 "$tmp/build"
verdict $status "make cuda ($((SECONDS - start)) s)"
status=0; ! grep -i 'warning' "$tmp/build" build/cuda-*/kernels/cuda/*.log || status=1
verdict $status "no warning"

start=$SECONDS status=0
"${make[@]}" cuda-report >"$tmp/report" 2>&1 || status=1
cat "$tmp/report"
verdict $status "cuda-report: no spill, mma.sync in every kernel that multiplies ($((SECONDS - start)) s)"
# The check itself can fail: a log that spills, PTX without mma.sync.
log=$(find build/cuda-*/kernels/cuda -name gemm_fwd.log -printf "%T@ %p\n" | sort -n | tail -n 1 | cut -d" " -f2)
ptx=${log%.log}.ptx
sed '0,/0 bytes spill stores/s//8 bytes spill stores/' "$log" >"$tmp/spills.log"
sed 's/mma\.sync/mma.gone/' "$ptx" >"$tmp/plain.ptx"
expect 1 "8 bytes spill stores" scripts/cuda_report.py "$tmp/spills.log" "$ptx"
expect 1 "has no mma.sync" scripts/cuda_report.py "$log" "$tmp/plain.ptx"
expect 0 "kernels" scripts/cuda_report.py "$log" "$ptx"

status=0; ! readelf -d "$einthoven" | grep -E 'NEEDED.*(cuda|cublas|cudnn|nccl)' || status=1
verdict $status "the program needs no CUDA library"
if command -v nvidia-smi >/dev/null; then
    skip "there may be a driver here"
else
    expect 1 "no NVIDIA driver" env EINTHOVEN_CUDA_LIB=build/libeinthoven_cuda.so "$einthoven" selftest --device cuda
    expect 0 "no NVIDIA driver" env EINTHOVEN_CUDA_LIB=build/libeinthoven_cuda.so "$einthoven" doctor
fi
finish
