/* SPDX-License-Identifier: MIT
 * A list is names between commas; a name's brackets hold ranges, whose numbers keep the width that their first number was
 * written with. Host k of a name is k written in the mixed base of its brackets' counts, so no list is ever expanded. */
#include "train/comm/hostlist.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BRACKETS 8
#define MAX_NUMBER   1000000000L

static enum ecg_status malformed(const char *list, const char *why) {
    return ecg_fail(ECG_ERR_FAIL, "node list \"%.200s\": %s", list, why);
}

/* A number at *text, which is moved past it, and the digits it was written with. */
static int take_number(const char **text, long *value, int *width) {
    const char *start = *text;
    long v = 0;
    while (isdigit((unsigned char)**text)) {
        v = 10 * v + (**text - '0');
        if (v > MAX_NUMBER) return 0;
        ++*text;
    }
    *value = v;
    *width = (int)(*text - start);
    return *width > 0;
}

/* Reads "01-03,07]" at *text and moves past it: how many numbers it holds, and the text of number `index` where it has
 * so many. */
static int take_bracket(const char **text, size_t index, size_t *count, char *number, size_t size) {
    *count = 0;
    for (;;) {
        long from, to;
        int width, ignored;
        if (!take_number(text, &from, &width)) return 0;
        to = from;
        if (**text == '-') {
            ++*text;
            if (!take_number(text, &to, &ignored) || to < from) return 0;
        }
        const size_t n = (size_t)(to - from) + 1;
        if (index >= *count && index - *count < n)
            snprintf(number, size, "%0*ld", width, from + (long)(index - *count));
        *count += n;
        if (**text == ']') break;
        if (**text != ',') return 0;
        ++*text;
    }
    ++*text;
    return 1;
}

/* The end of the name at `text`: its comma outside brackets, or the list's end. */
static const char *end_of_name(const char *text) {
    int depth = 0;
    while (*text && (depth > 0 || *text != ',')) {
        if (*text == '[') depth++;
        if (*text == ']') depth--;
        text++;
    }
    return text;
}

/* The counts of a name's brackets; -1 when it is malformed. */
static int count_brackets(const char *name, const char *end, size_t counts[MAX_BRACKETS]) {
    int n = 0;
    while (name < end) {
        char ignored[32];
        if (*name == ']') return -1;
        if (*name++ != '[') continue;
        if (n == MAX_BRACKETS ||
            !take_bracket(&name, (size_t)-1, &counts[n++], ignored, sizeof(ignored)))
            return -1;
    }
    return n;
}

static int write_name(const char *name, const char *end, const size_t digits[MAX_BRACKETS],
                      char *host, size_t size) {
    size_t length = 0;
    int bracket = 0;
    while (name < end) {
        char piece[32] = {*name, '\0'};
        size_t ignored;
        if (*name++ == '[') take_bracket(&name, digits[bracket++], &ignored, piece, sizeof(piece));
        const size_t n = strlen(piece);
        if (length + n + 1 > size) return 0;
        memcpy(host + length, piece, n + 1);
        length += n;
    }
    return length > 0;
}

enum ecg_status hostlist_at(const char *list, size_t index, char *host, size_t size) {
    const char *name = list;
    for (;;) {
        const char *end = end_of_name(name);
        size_t counts[MAX_BRACKETS], digits[MAX_BRACKETS], total = 1;
        const int n = count_brackets(name, end, counts);
        if (n < 0) return malformed(list, "a bracket is not like [01-03,07]");
        if (name == end) return malformed(list, "an empty name");
        for (int i = 0; i < n; i++) {
            if (total > (size_t)MAX_NUMBER) return malformed(list, "too many hosts");
            total *= counts[i];
        }
        if (index < total) {
            for (int i = n - 1; i >= 0; i--) {
                digits[i] = index % counts[i];
                index /= counts[i];
            }
            if (write_name(name, end, digits, host, size)) return ECG_OK;
            return malformed(list, "a name is too long");
        }
        index -= total;
        if (*end == '\0') return malformed(list, "has fewer hosts than were asked for");
        name = end + 1;
    }
}
