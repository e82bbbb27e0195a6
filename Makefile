# SPDX-License-Identifier: MIT
# Einthoven. `make help` lists the targets. Objects are keyed by their flags: changing CC, CFLAGS or SAN
# never mixes old objects with new ones.
CC      ?= gcc
AR      ?= ar
PREFIX  ?= /usr/local
DESTDIR ?=
BUILD   ?= build
CFLAGS  ?= -O2 -g
SAN     ?=

WARN   := -Wall -Wextra -Wshadow -Wvla -Wundef -Wmissing-prototypes -Wstrict-prototypes -Werror
DEPS   := hdf5-serial libdeflate jansson yaml-0.1 libxxhash
PKGS   := $(shell pkg-config --exists $(DEPS) 2>/dev/null && echo found)
ifneq ($(PKGS),)
PKG_CFLAGS := $(shell pkg-config --cflags $(DEPS))
PKG_LIBS   := $(shell pkg-config --libs $(DEPS))
endif
ALL_CFLAGS := -std=c11 -D_GNU_SOURCE -I. $(WARN) -fno-math-errno -ffp-contract=off $(CFLAGS) $(SAN) -pthread $(PKG_CFLAGS)
LIBS       := $(PKG_LIBS) -ldl -lm
KEY        := $(shell printf '%s' '$(CC) $(ALL_CFLAGS)' | cksum | cut -d' ' -f1)
OBJ        := $(BUILD)/obj-$(KEY)

SOURCES := $(sort $(wildcard core/*.c kernels/*.c kernels/ref/*.c kernels/cpu/*.c data/*.c data/*/*.c \
             checkpoints/*.c train/*/*.c))
MAIN    := train/cli/main.c
LIB_SRC := $(filter-out $(MAIN),$(SOURCES))
LIB_OBJ := $(LIB_SRC:%.c=$(OBJ)/%.o)
LIB     := $(OBJ)/libeinthoven.a
TEST_SUPPORT := $(sort $(wildcard tests/support/*.c))
TEST_SRC := $(sort $(wildcard tests/test_*.c))
TESTS   := $(TEST_SRC:tests/%.c=$(OBJ)/tests/%)

all: $(BUILD)/einthoven

$(BUILD)/einthoven: $(OBJ)/einthoven
	@cp -f $< $@.tmp && mv -f $@.tmp $@

$(OBJ)/einthoven: $(OBJ)/$(MAIN:.c=.o) $(LIB)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

$(LIB): $(LIB_OBJ)
	@rm -f $@
	@$(AR) rcs $@ $^

# SIMD levels: one file a level, chosen at run time (kernels/cpu/dispatch). Kernels are worth -O3.
$(OBJ)/kernels/cpu/%.o: ALL_CFLAGS += -O3
$(OBJ)/kernels/cpu/%_avx512.o: ALL_CFLAGS += -mavx512f -mavx512vl -mavx512bw -mavx512dq -mavx2 -mfma -mprefer-vector-width=512
$(OBJ)/kernels/cpu/%_avx2.o: ALL_CFLAGS += -mavx2 -mfma

$(OBJ)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(OBJ)/tests/%: $(OBJ)/tests/%.o $(TEST_SUPPORT:%.c=$(OBJ)/%.o) $(LIB)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

tests: $(TESTS)

clean:
	rm -rf $(BUILD)

.PHONY: all tests clean
.SECONDARY:
-include $(shell find $(OBJ) -name '*.d' 2>/dev/null)
