# SPDX-License-Identifier: MIT
# Einthoven. `make help` lists the targets. Objects are keyed by the compiler and its flags: changing CC,
# CFLAGS or SAN never mixes old objects with new ones. V=1 shows the commands.
ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin CXX),default)
CXX := g++
endif
AR      ?= ar
PREFIX  ?= /usr/local
DESTDIR ?=
BUILD   ?= build
CFLAGS  ?= -O2 -g
SAN     ?=
V       ?= 0

# As many jobs as there are cores, unless a number is given.
ifeq ($(MAKELEVEL),0)
ifeq ($(filter -j%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell nproc)
endif
endif
MAKEFLAGS += --no-print-directory

WARN   := -Wall -Wextra -Wshadow -Wvla -Wundef -Wmissing-prototypes -Wstrict-prototypes -Werror
DEPS   := hdf5-serial libdeflate jansson yaml-0.1 libxxhash
PKGS   := $(shell pkg-config --exists $(DEPS) 2>/dev/null && echo found)
ifneq ($(PKGS),)
PKG_CFLAGS := $(shell pkg-config --cflags $(DEPS))
PKG_LIBS   := $(shell pkg-config --libs $(DEPS))
endif
ALL_CFLAGS := -std=c11 -D_GNU_SOURCE -I. $(WARN) -fno-math-errno -ffp-contract=off $(CFLAGS) $(SAN) -pthread $(PKG_CFLAGS)
# Plug-ins find the names of exports.ld in the program that opens them.
LIBS       := $(PKG_LIBS) -ldl -lm -Wl,--dynamic-list=kernels/exports.ld
CC_VERSION := $(shell $(CC) --version 2>/dev/null | head -n 1)
KEY        := $(shell printf '%s' '$(CC) $(CC_VERSION) $(ALL_CFLAGS)' | cksum | cut -d' ' -f1)
OBJ        := $(BUILD)/obj-$(KEY)
GIT        := $(if $(wildcard .git),$(shell git describe --always --dirty 2>/dev/null))

SOURCES := $(sort $(wildcard core/*.c kernels/*.c kernels/ref/*.c kernels/cpu/*.c data/*.c data/*/*.c \
             checkpoints/*.c train/*/*.c))
MAIN    := train/cli/main.c
LIB_SRC := $(filter-out $(MAIN),$(SOURCES))
LIB_OBJ := $(LIB_SRC:%.c=$(OBJ)/%.o)
LIB     := $(OBJ)/libeinthoven.a
TEST_SUPPORT := $(sort $(wildcard tests/support/*.c))
TEST_SRC := $(sort $(wildcard tests/test_*.c))
TESTS   := $(TEST_SRC:tests/%.c=$(OBJ)/tests/%)
SOAKS   := $(patsubst tests/%.c,$(OBJ)/tests/%,$(sort $(wildcard tests/soak_cuda_*.c)))
FUZZERS := $(patsubst tests/%.c,$(OBJ)/tests/%,$(sort $(wildcard tests/soak_fuzz_*.c)))

# The MPI backend is a plug-in (train/comm/mpi), built where there is an MPI to build it with; MPICC: another compiler.
MPICC    ?= mpicc
HAVE_MPI := $(shell printf '\043include <mpi.h>\n' | $(MPICC) -E -x c - >/dev/null 2>&1 && echo found)
MPI_SRC  := train/comm/mpi/wire_mpi.c

ASAN := -fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=all
TSAN := -fsanitize=thread
# What shares memory between threads, small enough for the thread sanitizer.
TSAN_TESTS := $(filter test_core_pool test_cpu% test_net1d_rules test_loader% test_simulator% test_run% test_comm test_saver,$(notdir $(TESTS)))

ifeq ($(V),0)
say = @printf '  %-3s %s\n' $(1) $(2);
endif

all: $(BUILD)/einthoven $(if $(HAVE_MPI),$(BUILD)/libeinthoven_mpi.so)

# Compared, not dated: a binary built with other flags in between may be the newer file.
$(BUILD)/einthoven: $(OBJ)/einthoven always
	@cmp -s $< $@ || { cp -f $< $@.tmp && mv -f $@.tmp $@; }

$(OBJ)/einthoven: $(OBJ)/$(MAIN:.c=.o) $(LIB)
	$(call say,LD,$@)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

mpi: $(BUILD)/libeinthoven_mpi.so

$(BUILD)/libeinthoven_mpi.so: $(OBJ)/libeinthoven_mpi.so always
	@cmp -s $< $@ || { cp -f $< $@.tmp && mv -f $@.tmp $@; }

$(OBJ)/libeinthoven_mpi.so: $(MPI_SRC) train/comm/wire.h core/status.h Makefile
	@test -n '$(HAVE_MPI)' || { echo 'make mpi: no $(MPICC); install libopenmpi-dev or load a module, or set MPICC' >&2; exit 1; }
	@mkdir -p $(@D)
	$(call say,MPI,$@)OMPI_CC='$(CC)' MPICH_CC='$(CC)' $(MPICC) $(ALL_CFLAGS) -fPIC -fvisibility=hidden -shared -o $@ $(MPI_SRC)

$(LIB): $(LIB_OBJ) $(OBJ)/members
	$(call say,AR,$@)rm -f $@ && $(AR) rcs $@ $(LIB_OBJ)

# The archive's members: changes when a source is added or removed, so that the archive is made anew.
$(OBJ)/members: always
	@mkdir -p $(@D)
	@echo '$(LIB_OBJ)' | cmp -s - $@ || echo '$(LIB_OBJ)' > $@

# The commit that is built, for --version and manifests: changes with the checkout and rebuilds one file.
$(OBJ)/git: always
	@mkdir -p $(@D)
	@echo '$(GIT)' | cmp -s - $@ || echo '$(GIT)' > $@

$(OBJ)/train/run/version.o: $(OBJ)/git
$(OBJ)/train/run/version.o: ALL_CFLAGS += $(if $(GIT),-DEINTHOVEN_GIT='"$(GIT)"')

# SIMD levels: one file a level, chosen at run time (kernels/cpu/dispatch). Kernels are worth -O3; under a sanitizer their
# unrolled loops take minutes to compile at that.
$(OBJ)/kernels/cpu/%.o: ALL_CFLAGS += $(if $(SAN),-O1,-O3)
$(OBJ)/kernels/cpu/%_avx512.o: ALL_CFLAGS += -mavx512f -mavx512vl -mavx512bw -mavx512dq -mavx2 -mfma -mprefer-vector-width=512
$(OBJ)/kernels/cpu/%_avx512bf16.o: ALL_CFLAGS += -mavx512f -mavx512vl -mavx512bw -mavx512dq -mavx512bf16 -mavx2 -mfma -mprefer-vector-width=512
$(OBJ)/kernels/cpu/%_avx2.o: ALL_CFLAGS += -mavx2 -mfma

$(OBJ)/%.o: %.c Makefile | packages
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(OBJ)/tests/%: $(OBJ)/tests/%.o $(TEST_SUPPORT:%.c=$(OBJ)/%.o) $(LIB)
	$(call say,LD,$@)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

packages:
	@test -n '$(PKGS)' || { echo 'make: a library is missing ($(DEPS)); run scripts/setup.sh' >&2; exit 1; }

tests: $(TESTS)

# Packages may be installed on the way, so the rest is a make of its own that looks for them again. What
# only tests need may stay missing: those tests are then skipped with the reason.
test:
	@scripts/setup.sh test || EINTHOVEN_NO_INSTALL=1 scripts/setup.sh
	@$(MAKE) run-tests

# The CUDA backend's emulation is C++; without a compiler for it the runner skips its tests.
ifneq ($(shell command -v $(CXX) 2>/dev/null),)
EMULATED      := emu emu-tests
EMULATED_SOAK := $(SOAKS) emu emu-tests-all emu-count
endif

run-tests: all tests $(EMULATED)
	@scripts/run_tests.sh all $(OBJ)

soak:
	@scripts/setup.sh soak || EINTHOVEN_NO_INSTALL=1 scripts/setup.sh
	@$(MAKE) run-soak

run-soak: all tests fuzzers $(EMULATED_SOAK)
	@scripts/run_tests.sh soak $(OBJ)

# The fuzz targets are built with the sanitizers, whatever the rest is built with.
fuzzers:
	@$(MAKE) SAN='$(ASAN)' fuzzers-sanitized

fuzzers-sanitized: $(FUZZERS)
	@mkdir -p $(BUILD)/fuzz
	@cp -f $^ $(BUILD)/fuzz

asan:
	@$(MAKE) SAN='$(ASAN)' run-sanitized

tsan:
	@$(MAKE) SAN='$(TSAN)' RUN_TESTS='$(TSAN_TESTS)' run-sanitized

# The test programs, and the program itself under the tests of the command line (its own binary, not build/einthoven).
run-sanitized: $(OBJ)/einthoven $(if $(RUN_TESTS),$(RUN_TESTS:%=$(OBJ)/tests/%),$(TESTS))
	@scripts/run_tests.sh sanitized $(OBJ) $(RUN_TESTS)

demo:
	@EINTHOVEN_NO_INSTALL=1 scripts/setup.sh || scripts/setup.sh
	@$(MAKE) all
	@scripts/demo.sh

bench: all
	@$(BUILD)/einthoven bench

# README's tables of speed; on a quiet machine. BENCH_TORCH: what scripts/bench_torch.py --json wrote.
bench-readme: all
	@scripts/bench_readme.py $(BENCH_TORCH:%=--torch %)

format:
	@scripts/format.sh

check-format:
	@scripts/format.sh --check

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/einthoven/configs/maps
	install -m 755 $(BUILD)/einthoven $(DESTDIR)$(PREFIX)/bin/einthoven
	if test -e $(BUILD)/libeinthoven_cuda.so; then \
	    install -d $(DESTDIR)$(PREFIX)/lib/einthoven && \
	    install -m 755 $(BUILD)/libeinthoven_cuda.so $(DESTDIR)$(PREFIX)/lib/einthoven/; fi
	if test -e $(BUILD)/libeinthoven_mpi.so; then \
	    install -d $(DESTDIR)$(PREFIX)/lib/einthoven && \
	    install -m 755 $(BUILD)/libeinthoven_mpi.so $(DESTDIR)$(PREFIX)/lib/einthoven/; fi
	install -m 644 $(wildcard configs/*.yaml) $(DESTDIR)$(PREFIX)/share/einthoven/configs
	install -m 644 $(wildcard configs/maps/*) $(DESTDIR)$(PREFIX)/share/einthoven/configs/maps
	install -m 644 LICENSE $(DESTDIR)$(PREFIX)/share/einthoven/LICENSE

clean:
	rm -rf $(BUILD)

help:
	@echo 'make              build/einthoven'
	@echo 'make demo         the whole line on simulated ECGs, a few minutes on two cores'
	@echo 'make test         every check and test; installs missing Debian packages first. EINTHOVEN_TORCH2_PYTHON: an'
	@echo '                  interpreter with PyTorch 2, for the tests of .pth files once more'
	@echo 'make soak         the long tests, also under a Slurm of their own; EINTHOVEN_FUZZ_SECONDS (60) for each fuzz target'
	@echo 'make fuzzers      build/fuzz/soak_fuzz_*, under the address and undefined-behaviour sanitizer: PROGRAM [SECONDS [SEED]]'
	@echo 'make bench        figures of this machine'
	@echo 'make bench-readme the same into README.md; BENCH_TORCH=FILES of scripts/bench_torch.py --json'
	@echo 'make asan, tsan   the C and command line tests under the address and undefined-behaviour, the thread sanitizer'
	@echo 'make mpi          build/libeinthoven_mpi.so by mpicc (make does it where there is one); MPICC'
	@echo 'make cuda         build/libeinthoven_cuda.so by nvcc; CUDA_ARCHS="80 90 100", CUDART=static|shared, NVCC'
	@echo 'make cuda-report  registers, shared memory, spills, occupancy and tensor-core instructions of every kernel'
	@echo 'make emu          build/emu/einthoven with the CUDA backend emulated; EMU_MODE=plain|count|asan|tsan'
	@echo 'make emu-test     the tests of the CUDA backend in every mode of the emulation'
	@echo 'make format, check-format'
	@echo 'make install      PREFIX=/usr/local DESTDIR= ; installs no packages'
	@echo 'make clean'
	@echo 'Variables: CC, CFLAGS (-O2 -g), SAN, LDFLAGS, BUILD (build), V=1 shows the commands'

include kernels/cuda/cuda.mk

.PHONY: all always mpi packages tests test run-tests soak run-soak fuzzers fuzzers-sanitized asan tsan run-sanitized demo bench bench-readme format \
        check-format install clean help
.SECONDARY:
-include $(shell find $(OBJ) -name '*.d' 2>/dev/null)
