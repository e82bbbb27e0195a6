/* SPDX-License-Identifier: MIT
 * A hash set by linear probing; doubled when three quarters full. */
#include "data/id_set.h"

#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/mem.h"

static uint64_t key_of(const char *id) {
    uint64_t key = hash_bytes(id, strlen(id));
    return key != 0 ? key : 1;
}

/* The slot that holds the key, or the free one where it belongs. */
static size_t find(const struct id_set *s, uint64_t key) {
    size_t i = (size_t)key & (s->n_slots - 1);
    while (s->slots[i] != 0 && s->slots[i] != key) i = (i + 1) & (s->n_slots - 1);
    return i;
}

bool id_set_has(const struct id_set *s, const char *id) {
    return s->n_slots > 0 && s->slots[find(s, key_of(id))] != 0;
}

static enum ecg_status grow(struct id_set *s) {
    struct id_set larger = {.n = s->n, .n_slots = s->n_slots == 0 ? 1024 : s->n_slots * 2};
    TRY(MEM_NEW(&larger.slots, larger.n_slots));
    for (size_t i = 0; i < s->n_slots; i++)
        if (s->slots[i] != 0) larger.slots[find(&larger, s->slots[i])] = s->slots[i];
    free(s->slots);
    *s = larger;
    return ECG_OK;
}

enum ecg_status id_set_add(struct id_set *s, const char *id) {
    if (s->n_slots == 0 || s->n + 1 > s->n_slots / 4 * 3) TRY(grow(s));
    uint64_t key = key_of(id);
    size_t i = find(s, key);
    if (s->slots[i] == 0) s->n++;
    s->slots[i] = key;
    return ECG_OK;
}

void id_set_free(struct id_set *s) {
    free(s->slots);
    *s = (struct id_set){0};
}
