# SPDX-License-Identifier: MIT
# The CUDA backend, built by nvcc (make cuda) and, for the emulation in tests/emu, by a C++ compiler (make emu).

# ---- nvcc ----
NVCC       ?= $(or $(shell command -v nvcc 2>/dev/null),/usr/local/cuda/bin/nvcc)
CUDA_ARCHS ?= 80 90 100
CUDART     ?= static
NVCCFLAGS  ?= -O3 -lineinfo
CUDA_SRC   := $(sort $(wildcard kernels/cuda/*.cu))
CUDA_HOME  := $(patsubst %/bin/,%,$(dir $(realpath $(NVCC))))
CUDA_LIBS   = $(firstword $(wildcard $(CUDA_HOME)/lib64 $(CUDA_HOME)/targets/x86_64-linux/lib))
# SASS for every architecture that is named, PTX of the newest for those that come later.
CUDA_GEN   := $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) \
              -gencode arch=compute_$(lastword $(CUDA_ARCHS)),code=compute_$(lastword $(CUDA_ARCHS))
CUDA_FLAGS  = -std=c++17 -I. -Icore -Ikernels -Ikernels/cuda $(NVCCFLAGS) $(CUDA_GEN) -Werror all-warnings -Xptxas -v \
              -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra
CUDA_KEY    = $(shell printf '%s' '$(NVCC) $(shell $(NVCC) --version 2>/dev/null | tail -n 1) $(CUDA_FLAGS)' | cksum | cut -d' ' -f1)
# Looked up only when nvcc is to run.
CUDA_OBJ    = $(eval CUDA_OBJ := $(BUILD)/cuda-$(CUDA_KEY))$(CUDA_OBJ)

# The logs hold what ptxas says of each kernel: registers, spills, shared memory.
cuda:
	@test -x '$(NVCC)' || { echo 'make cuda: no nvcc ($(NVCC)); set NVCC' >&2; exit 1; }
	@$(MAKE) CUDA_OBJ=$(CUDA_OBJ) cuda-built

cuda-built: $(BUILD)/libeinthoven_cuda.so

# Registers, shared memory, spills, occupancy and tensor-core instructions of every kernel.
cuda-report: cuda
	@$(MAKE) CUDA_OBJ=$(CUDA_OBJ) cuda-reported

cuda-reported: $(CUDA_SRC:%.cu=$(CUDA_OBJ)/%.ptx)
	@scripts/cuda_report.py $(CUDA_SRC:%.cu=$(CUDA_OBJ)/%.log) $^

ifneq ($(filter cuda-built cuda-reported,$(MAKECMDGOALS)),)
$(BUILD)/libeinthoven_cuda.so: $(CUDA_OBJ)/libeinthoven_cuda-$(CUDART).so always
	@cmp -s $< $@ || { cp -f $< $@.tmp && mv -f $@.tmp $@; }

CUDA_LINK_static := -lcudart_static -lrt
CUDA_LINK_shared  = -Wl,--enable-new-dtags,-rpath,$(CUDA_LIBS) -lcudart
$(CUDA_OBJ)/libeinthoven_cuda-$(CUDART).so: $(CUDA_SRC:%.cu=$(CUDA_OBJ)/%.o)
	$(call say,LD,$@)$(CXX) -shared -o $@ $^ -L$(CUDA_LIBS) $(CUDA_LINK_$(CUDART)) -ldl -lpthread

$(CUDA_OBJ)/%.o: %.cu Makefile kernels/cuda/cuda.mk
	@mkdir -p $(@D)
	$(call say,NV,$<)$(NVCC) $(CUDA_FLAGS) -MMD -MP -c -o $@ $< >$(@:.o=.log) 2>&1 || { cat $(@:.o=.log) >&2; rm -f $@; exit 1; }

$(CUDA_OBJ)/%.ptx: %.cu Makefile kernels/cuda/cuda.mk
	@mkdir -p $(@D)
	$(call say,PTX,$<)$(NVCC) $(filter-out -gencode arch=% -Xptxas -v,$(CUDA_FLAGS)) -arch=compute_$(lastword $(CUDA_ARCHS)) \
	    -MMD -MP -MF $@.d -ptx -o $@ $<
-include $(shell find $(CUDA_OBJ) -name '*.d' 2>/dev/null)
endif

# ---- the emulation ----
#   plain   speed, thread orders (EMU_ORDER), host threads (EMU_THREADS)
#   count   the kernels' loads and stores checked against device and shared memory, and counted
#   asan    address and undefined-behaviour sanitizer
#   tsan    thread sanitizer: races between CUDA threads
EMU_MODES   := plain count asan tsan
EMU_MODE    ?= plain
EMU_OUT     := $(BUILD)/emu$(if $(filter-out plain,$(EMU_MODE)),-$(EMU_MODE))
EMU_FLAGS_plain :=
EMU_FLAGS_count := -DEMU_COUNT=1
EMU_FLAGS_asan  := $(ASAN)
EMU_FLAGS_tsan  := -DEMU_TSAN=1
# What is added for kernels, and for linking; the C code stays as it is in every mode.
EMU_KERNEL_count := -fsanitize=thread
EMU_KERNEL_tsan  := -fsanitize=thread
EMU_SAN_asan     := $(ASAN)
EMU_SAN_tsan     := -fsanitize=thread
EMU_WARN    := -Wall -Wextra -Wshadow -Wvla -Wundef -Wno-unknown-pragmas -Werror
EMU_CXXFLAGS ?= $(if $(EMU_SAN_$(EMU_MODE)),-O1,-O2) -g1
EMU_ALL     := -x c++ -std=c++17 -D_GNU_SOURCE -DEINTHOVEN_EMU -I. -Itests/emu $(EMU_WARN) -fno-math-errno -ffp-contract=off \
               -fPIC -pthread $(EMU_CXXFLAGS) $(EMU_FLAGS_$(EMU_MODE))
EMU_KEY     := $(shell printf '%s' '$(CXX) $(shell $(CXX) --version 2>/dev/null | head -n 1) $(EMU_ALL) $(EMU_KERNEL_$(EMU_MODE))' | cksum | cut -d' ' -f1)
EMU_OBJ     := $(BUILD)/emu-obj-$(EMU_KEY)
EMU_SRC     := $(sort $(filter-out tests/emu/test_%,$(wildcard tests/emu/*.cc)))
EMU_TESTS   := $(sort $(patsubst tests/emu/%.cc,$(EMU_OUT)/tests/%,$(wildcard tests/emu/test_*.cc)))
EMU_MEMBERS := $(CUDA_SRC:%.cu=$(EMU_OBJ)/%.o) $(EMU_SRC:%.cc=$(EMU_OBJ)/%.o)
EMU_LINK     = $(CXX) -pthread $(EMU_SAN_$(EMU_MODE)) $(LDFLAGS)

# $(EMU_OUT)/einthoven with the plug-in beside it.
emu: $(EMU_OUT)/einthoven $(EMU_OUT)/libeinthoven_cuda.so

emu-tests: $(EMU_TESTS)

# Every mode's tests; the runner runs them.
emu-tests-all:
	@for mode in $(EMU_MODES); do $(MAKE) EMU_MODE=$$mode emu-tests || exit; done

# What soak_cuda_bytes counts with.
emu-count:
	@$(MAKE) EMU_MODE=count emu

emu-test: emu-tests-all
	@scripts/run_tests.sh emu $(OBJ)

# A sanitizer wants to be in the main program.
ifneq ($(EMU_SAN_$(EMU_MODE)),)
$(EMU_OUT)/einthoven: $(OBJ)/$(MAIN:.c=.o) $(LIB)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(EMU_LINK) -o $@ $^ $(LIBS)
else
$(EMU_OUT)/einthoven: $(OBJ)/einthoven always
	@mkdir -p $(@D)
	@cmp -s $< $@ || { cp -f $< $@.tmp && mv -f $@.tmp $@; }
endif

$(EMU_OUT)/libeinthoven_cuda.so: $(EMU_OBJ)/libeinthoven_cuda.so always
	@mkdir -p $(@D)
	@cmp -s $< $@ || { cp -f $< $@.tmp && mv -f $@.tmp $@; }

$(EMU_OBJ)/libeinthoven_cuda.so: $(EMU_MEMBERS)
	$(call say,LD,$@)$(EMU_LINK) -shared -o $@ $^ -ldl

$(EMU_OBJ)/libemu.a: $(EMU_MEMBERS) $(EMU_OBJ)/members
	$(call say,AR,$@)rm -f $@ && $(AR) rcs $@ $(EMU_MEMBERS)

$(EMU_OBJ)/members: always
	@mkdir -p $(@D)
	@echo '$(EMU_MEMBERS)' | cmp -s - $@ || echo '$(EMU_MEMBERS)' > $@

$(EMU_OBJ)/kernels/cuda/%.o: kernels/cuda/%.cu Makefile kernels/cuda/cuda.mk
	@mkdir -p $(@D)
	$(call say,EMU,$<)$(CXX) $(EMU_ALL) $(EMU_KERNEL_$(EMU_MODE)) -MMD -MP -c -o $@ $<

# Tests hold kernels.
$(EMU_OBJ)/tests/emu/test_%.o: EMU_ALL += $(EMU_KERNEL_$(EMU_MODE))
$(EMU_OBJ)/tests/emu/%.o: tests/emu/%.cc Makefile kernels/cuda/cuda.mk
	@mkdir -p $(@D)
	$(call say,EMU,$<)$(CXX) $(EMU_ALL) -MMD -MP -c -o $@ $<

$(EMU_OUT)/tests/%: $(EMU_OBJ)/tests/emu/%.o $(EMU_OBJ)/libemu.a $(TEST_SUPPORT:%.c=$(OBJ)/%.o) $(LIB)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(EMU_LINK) -o $@ $^ $(LIBS)

.PHONY: cuda cuda-built cuda-report cuda-reported emu emu-tests emu-tests-all emu-count emu-test
-include $(shell find $(EMU_OBJ) -name '*.d' 2>/dev/null)
