/* SPDX-License-Identifier: MIT
 * What the emulated device says of itself. */
#include <stdio.h>
#include <stdlib.h>

#include "internal.h"

/* ---- the device ---- */
static int n_sms(void) {
    const char *text = getenv("EMU_SMS");
    return text == NULL ? 4 : atoi(text);
}

cudaError_t cudaGetDeviceCount(int *n) {
    *n = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    return device == 0 ? cudaSuccess
                       : emu_failed(cudaErrorInvalidDevice,
                                    "cudaSetDevice(%d): there is one device", device);
}

cudaError_t cudaGetDevice(int *device) {
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *out, int device) {
    if (device != 0)
        return emu_failed(cudaErrorInvalidDevice,
                          "cudaGetDeviceProperties(%d): there is one device", device);
    size_t free_bytes;
    *out = {};
    snprintf(out->name, sizeof out->name, "CUDA emulation");
    cudaMemGetInfo(&free_bytes, &out->totalGlobalMem);
    out->sharedMemPerBlock = emu_static_shared;
    out->sharedMemPerBlockOptin = emu_max_shared;
    out->sharedMemPerMultiprocessor = 228 << 10;
    out->major = 9;
    out->multiProcessorCount = n_sms();
    out->maxThreadsPerBlock = emu_max_threads;
    out->maxThreadsPerMultiProcessor = 2048;
    out->warpSize = 32;
    out->regsPerBlock = 65536;
    out->l2CacheSize = 50 << 20;
    out->memoryBusWidth = 5120;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attr, int device) {
    if (device != 0)
        return emu_failed(cudaErrorInvalidDevice, "cudaDeviceGetAttribute(%d): there is one device",
                          device);
    switch (attr) {
    case cudaDevAttrMaxThreadsPerBlock:
        *value = emu_max_threads;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = emu_static_shared;
        break;
    case cudaDevAttrWarpSize:
        *value = 32;
        break;
    case cudaDevAttrClockRate:
        *value = 1000000;
        break;
    case cudaDevAttrMultiProcessorCount:
        *value = n_sms();
        break;
    case cudaDevAttrMemoryClockRate:
        *value = 1000000;
        break;
    case cudaDevAttrGlobalMemoryBusWidth:
        *value = 5120;
        break;
    case cudaDevAttrL2CacheSize:
        *value = 50 << 20;
        break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        *value = 2048;
        break;
    case cudaDevAttrComputeCapabilityMajor:
        *value = 9;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *value = 0;
        break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = 228 << 10;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = emu_max_shared;
        break;
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceReset(void) {
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}
