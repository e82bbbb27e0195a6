/* SPDX-License-Identifier: MIT
 * .pth: three places to damage: the file anywhere, its directory at the end, and the pickle with an archive around it that is
 * sound (else its CRC would keep almost everything from the stack machine). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/pth.h"
#include "tests/support/check.h"
#include "tests/support/fuzz.h"
#include "tests/support/fuzz_tensors.h"
#include "tests/support/pickles.h"

static const struct fuzz_word opcodes[] = {
    FUZZ_WORD("\x80\2"), FUZZ_WORD("N"),      FUZZ_WORD("G"),      FUZZ_WORD("\x88"),
    FUZZ_WORD("\x89"),   FUZZ_WORD("J"),      FUZZ_WORD("K\1"),    FUZZ_WORD("M"),
    FUZZ_WORD("\x8a"),   FUZZ_WORD("X"),      FUZZ_WORD("T"),      FUZZ_WORD("U\1a"),
    FUZZ_WORD("c"),      FUZZ_WORD("("),      FUZZ_WORD("}"),      FUZZ_WORD("]"),
    FUZZ_WORD(")"),      FUZZ_WORD("t"),      FUZZ_WORD("\x85"),   FUZZ_WORD("\x86"),
    FUZZ_WORD("\x87"),   FUZZ_WORD("a"),      FUZZ_WORD("e"),      FUZZ_WORD("s"),
    FUZZ_WORD("u"),      FUZZ_WORD("q\1"),    FUZZ_WORD("r"),      FUZZ_WORD("h\1"),
    FUZZ_WORD("j"),      FUZZ_WORD("Q"),      FUZZ_WORD("R"),      FUZZ_WORD("\x81"),
    FUZZ_WORD("b"),      FUZZ_WORD("."),      FUZZ_WORD("PK\1\2"), FUZZ_WORD("PK\3\4"),
    FUZZ_WORD("PK\5\6"), FUZZ_WORD("PK\6\6"), FUZZ_WORD("PK\6\7"),
};
#define N_OPCODES (sizeof opcodes / sizeof *opcodes)

static void make(struct bytes *b, struct rng *r) {
    struct bytes pickle = {0};
    pickle_checkpoint(&pickle);
    uint64_t place = rng_below(r, 3);
    if (place == 0) fuzz_damage(&pickle, 0, r, opcodes, N_OPCODES);
    pickle_archive(b, &pickle, 96, 24);
    if (place == 1) fuzz_damage(b, 0, r, opcodes, N_OPCODES);
    if (place == 2) fuzz_damage(b, b->n - 260, r, opcodes, N_OPCODES); /* the directory */
    bytes_free(&pickle);
}

static enum ecg_status read(const char *path, struct fuzz_result *result) {
    struct safetensors s;
    TRY(pth_or_safetensors_open(&s, path));
    fuzz_check_tensors(&s, result);
    if (result->read % 64 == 0) fuzz_write_again(&s, pth_write, result);
    safetensors_close(&s);
    return ECG_OK;
}

const struct fuzz_target fuzz_pth = {"fuzz.pth", ECG_ERR_DATA, make, read};
