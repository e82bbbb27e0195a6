/* SPDX-License-Identifier: MIT
 * kernels.conv: whether a convolution is done by our own kernels (custom), by NVIDIA's libraries (cudnn: conv_vendor.cuh), or by
 * whichever was faster on this GPU (auto).
 *
 * auto tries both when a shape's scratch memory is asked for, which is before the first step: it times act_conv_fwd and
 * act_conv_bwd, each by itself, and takes the libraries where they are faster and their results agree. A
 * choice serves smaller batches too, down to a quarter. What was found is kept in a file of the user's
 * cache folder; results then repeat bit for bit, as long as that file stays. */
#ifndef KERNELS_CUDA_CHOOSE_H
#define KERNELS_CUDA_CHOOSE_H

#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/vendor.h"

enum conv_way { CONV_CUSTOM, CONV_CUDNN, CONV_AUTO };

struct conv_choice {
    enum ops_dtype dtype;
    struct ops_conv s;
    int backward;
    int cudnn;                /* the libraries are taken */
    double custom_us, cudnn_us; /* 0: not known */
};

struct conv_choices {
    struct conv_choice *v;
    int n, room;
};

struct choose {
    enum conv_way way;
    struct vendor *vendor; /* open unless the way is, and always was, custom */
    struct conv_choices choices;
    char file[4096]; /* where they are kept; "": nowhere */
};

/* Part of opening and closing a device. EINTHOVEN_CUDA_CONV=custom|cudnn|auto is the way until choose_conv is called, and
 * general, for tests, custom without tensor cores. */
enum ecg_status conv_choose_open(struct ops_dev *dev);
void conv_choose_close(struct ops_dev *dev);

/* Whether the libraries do this pass. */
int conv_uses_vendor(const struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s,
                     int backward);
/* auto: tries the passes of a shape that have not been tried. What fails is said, and the pass stays custom. */
void conv_choose_try(struct ops_dev *dev, enum ops_dtype dtype, struct ops_conv s, int backward);

/* ---- the file ---- */

/* Its name for this GPU, driver and these versions of the libraries; makes its folder. "" where there is no place for it. */
void choices_file(char *out, size_t n, const struct vendor *v);
/* What the file holds; nothing, with a warning, when it is damaged. */
enum ecg_status choices_read(struct conv_choices *out, const char *file);
/* All or nothing. A failure is a warning, and makes *file "". */
void choices_write(const struct conv_choices *choices, char *file);
enum ecg_status choices_add(struct conv_choices *choices, struct conv_choice one);

#endif
