/* SPDX-License-Identifier: MIT
 * The one place that knows which backends exist. */
#include <string.h>

#include "kernels/ops.h"

enum ecg_status ops_find(const struct ops **out, const char *device) {
    *out = NULL;
    if (strcmp(device, "cpu") == 0) {
        *out = ops_cpu();
        return ECG_OK;
    }
    if (strcmp(device, "ref") == 0) {
        *out = ops_ref();
        return ECG_OK;
    }
    if (strcmp(device, "cuda") == 0)
        return ecg_fail(ECG_ERR_FAIL, "device cuda: this build has no CUDA backend; use cpu");
    return ecg_fail(ECG_ERR_CONFIG, "device \"%s\" is not known; known are cpu, cuda and ref",
                    device);
}
