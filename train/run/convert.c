/* SPDX-License-Identifier: MIT
 * Both readers fill the same struct, so converting is reading and writing. */
#include "train/run/convert.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/pth.h"
#include "core/log.h"
#include "core/mem.h"
#include "train/model/weights.h"
#include "train/run/network.h"

static bool has_suffix(const char *path, const char *suffix) {
    size_t n = strlen(path), m = strlen(suffix);
    return n > m && strcmp(path + n - m, suffix) == 0;
}

/* The tensors as rows to write, and the metadata, which starts with a format when it has none. */
static enum ecg_status write_rows(const struct safetensors *s, const char *out, bool is_pth,
                                  struct safetensors_out *rows, const char **meta) {
    const char **keys = meta, **values = meta + s->n_meta + 1;
    size_t n_meta = 0;
    for (size_t i = 0; i < s->n_entries; i++) {
        const struct safetensors_entry *e = &s->entries[i];
        rows[i] = (struct safetensors_out){
            .name = e->name, .dtype = e->dtype, .ndim = e->ndim, .data = e->data};
        memcpy(rows[i].shape, e->shape, sizeof(rows[i].shape));
    }
    if (safetensors_meta(s, "format") == NULL) {
        keys[n_meta] = "format";
        values[n_meta++] = "pt";
    }
    for (size_t i = 0; i < s->n_meta; i++) {
        keys[n_meta] = s->meta_keys[i];
        values[n_meta++] = s->meta_values[i];
    }
    return is_pth ? pth_write(out, rows, s->n_entries, keys, values, n_meta)
                  : safetensors_write(out, rows, s->n_entries, keys, values, n_meta);
}

static void log_network(const struct safetensors *s, const char *out) {
    struct net1d_config c;
    if (weights_read_config(s, &c) != ECG_OK)
        log_warn("%s", ecg_message());
    else
        log_info("%s: %zu tensors of a Net1D with %d leads, %d stages up to %d filters, %d outputs",
                 out, s->n_entries, c.n_leads, c.n_stages, c.filters[c.n_stages - 1], c.n_outputs);
}

enum ecg_status convert_run(const char *in, const char *out) {
    bool is_pth = has_suffix(out, ".pth") || has_suffix(out, ".pt");
    if (!is_pth && !has_suffix(out, ".safetensors"))
        return ecg_fail(ECG_ERR_USAGE, "%s: the name must end in .pth, .pt or .safetensors", out);
    struct safetensors s = {0};
    struct safetensors_out *rows = NULL;
    const char **meta = NULL;
    char *file = NULL;
    enum ecg_status status;
    TRY_OUT(network_file(in, &file));
    TRY_OUT(pth_or_safetensors_open(&s, file));
    TRY_OUT(MEM_NEW(&rows, s.n_entries));
    TRY_OUT(MEM_NEW(&meta, 2 * (s.n_meta + 1)));
    TRY_OUT(write_rows(&s, out, is_pth, rows, meta));
    log_network(&s, out);
out:
    free(meta);
    free(rows);
    free(file);
    safetensors_close(&s);
    return status;
}
