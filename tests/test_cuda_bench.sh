#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# bench --device cuda, emulated: its figures say nothing there, but all of them are there and are numbers above 0.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/support/shell.inc
. tests/support/shell.inc

plugin=$PWD/build/emu/libeinthoven_cuda.so
unless_sanitized "the emulation has sanitized builds of its own"
expect 2 "--kernels: only device cuda" "$einthoven" bench --kernels
if [ ! -e "$plugin" ]; then
    skip "the emulated CUDA backend is not built: make emu"
    finish
    exit
fi
export EINTHOVEN_CUDA_LIB=$plugin
quick=("$einthoven" bench --device cuda --quick --model ptbxl_superclass --batch 2)
expect 0 "cuda, CUDA emulation, " "${quick[@]}" --ops --precision bf16
grep -q "both gradients" "$tmp/stdout" && ! grep -qi nan "$tmp/stdout"
verdict $? "bench --ops: both gradients together, no NaN"
expect 0 "kernels of a training step: " "${quick[@]}" --kernels --runs 1 --precision bf16
! grep -qi nan "$tmp/stdout"
verdict $? "bench --kernels: no NaN"
expect 0 "" "${quick[@]}" --ops --train --kernels --runs 1 --batch-norm --json
if command -v python3 >/dev/null; then
    code=0
    python3 -c 'import json, math, sys
d = json.load(sys.stdin)
def numbers(value, path):
    if isinstance(value, dict):
        for key in value: yield from numbers(value[key], path + "." + key)
    elif isinstance(value, list):
        for i, one in enumerate(value): yield from numbers(one, "%s[%d]" % (path, i))
    elif not isinstance(value, (str, bool)) and path != ".git":
        yield path, value
# Packing is no work in fp32; all else is above 0.
bad = [p for p, v in numbers(d, "") if v is None or not math.isfinite(v) or not (v > 0 or (p.endswith("packing_ms") and v == 0))]
assert not bad, bad
assert d["device"] == "cuda" and d["gpu"] == "CUDA emulation" and "threads" not in d
assert set(d["peaks"]) == {"fp32_gflops", "bf16_gflops", "memory_gb_s"}
for precision in ("fp32", "bf16"):
    ops = d["ops"][precision]
    shapes = ops["convolutions"]["shapes"]
    # 8 blocks of three convolutions and the stem
    assert sum(s["count"] for s in shapes) == 25 and shapes[0]["kind"] == "stem"
    for s in shapes:
        passes = {"forward", "weight_gradient", "backward"} | ({"data_gradient"} if s["kind"] != "stem" else set())
        assert passes <= set(s) and all(set(s[p]) == {"gflops", "percent_of_peak", "gb_s", "percent_of_memory", "seconds"} for p in passes)
    assert set(ops["elementwise"]) == {"act_fwd", "act_bwd", "norm_stats", "norm_sums", "norm_dx", "shortcut_fwd",
                                       "shortcut_bwd", "gate_bwd", "branch_bwd", "adam"}
(t,) = d["train"]
assert t["batch_norm"] and t["training"]["gb_per_ecg"] > t["inference"]["gb_per_ecg"]
k = t["kernels"]
assert abs(sum(one["launches"] for one in k["list"]) - k["launches"]) < 1e-6 and k["launches"] == int(k["launches"])
assert abs(sum(one["percent"] for one in k["list"]) - 100) < 1e-6
names = {one["kernel"].split("_")[0] for one in k["list"]}
# Passes are launched kernel by kernel, not replayed.
assert {"adam", "conv", "linear", "norm"} <= names, names' <"$tmp/stdout" || code=$?
    verdict $code "bench --json: complete, every figure a number above 0"
else
    skip "bench --json parses (no python3)"
fi
finish
