/* SPDX-License-Identifier: MIT
 * What the CUDA backend says about this machine, for `einthoven doctor`, and measures there, for `einthoven bench`. ops_find itself stands in kernels/ops.h.
 * Valid C and C++17. */
#ifndef KERNELS_FIND_H
#define KERNELS_FIND_H

#include "core/status.h"
#include "kernels/cuda/plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Opens the plug-in and asks it; *path is the file that was opened. ECG_ERR_FAIL, saying what to do, when there is no plug-in
 * or it can't be loaded. */
enum ecg_status ops_cuda_report(struct cuda_report *report, const char **path);
/* Opens the plug-in for what bench measures. */
enum ecg_status ops_cuda_bench(const struct cuda_bench **bench);
/* Opens the plug-in for sums over several GPUs. */
enum ecg_status ops_cuda_comm(const struct cuda_comm **comm);

#ifdef __cplusplus
}
#endif
#endif
