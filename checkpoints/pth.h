/* SPDX-License-Identifier: MIT
 * PyTorch's files (torch.save since 1.6: a zip archive of a pickle and the storages' bytes), read into the struct that
 * safetensors files are read into, and written. Nothing of a pickle is executed (checkpoints/pickle.h). */
#ifndef CHECKPOINTS_PTH_H
#define CHECKPOINTS_PTH_H

#include "checkpoints/safetensors.h"

/* A file of tensors, .pth or safetensors by what it holds, not by its name. Close with safetensors_close. Prefixes "module."
 * (DataParallel) and "_orig_mod." (torch.compile), in any order, that all names have, are taken off.
 *
 * Of a .pth: the tensors of its state_dict, which is the pickle's dict or stands in it under "state_dict"; the rest (epoch,
 * optimizer, scheduler ...) is passed over. Metadata: the dict of strings under "einthoven", as pth_write leaves it. Tensors
 * that are contiguous in their storage are read where they lie in the map, others are gathered; all together may be four
 * times the file's size. An archive without CRCs (torch.serialization.set_crc32_options(False)) is read with a warning.
 * Whatever contradicts itself, is damaged, truncated, compressed, of PyTorch before 1.6 or asks for code: ECG_ERR_DATA with
 * file and place. */
enum ecg_status pth_or_safetensors_open(struct safetensors *s, const char *path);

/* Writes {"state_dict": OrderedDict of the tensors in their order, "einthoven": dict of the metadata}: torch.load reads it,
 * with weights_only=True, too. Data are host memory. Atomic; equal content, equal bytes. Names that
 * reading would refuse (control characters, more than 1000 bytes): ECG_ERR_DATA. */
enum ecg_status pth_write(const char *path, const struct safetensors_out *tensors, size_t n,
                          const char *const *meta_keys, const char *const *meta_values, size_t n_meta);

#endif
