/* SPDX-License-Identifier: MIT
 * CUDA's types for the emulation. */
#ifndef EMU_TYPES_H
#define EMU_TYPES_H

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {
    }
};

#define EMU_VECTOR2(name, T)                                  \
    struct __attribute__((aligned(2 * sizeof(T)))) name##2 { \
        T x, y;                                               \
    };                                                        \
    static inline name##2 make_##name##2(T x, T y) {          \
        return name##2{x, y};                                 \
    }
#define EMU_VECTOR4(name, T)                                        \
    struct __attribute__((aligned(4 * sizeof(T)))) name##4 {       \
        T x, y, z, w;                                               \
    };                                                              \
    static inline name##4 make_##name##4(T x, T y, T z, T w) {      \
        return name##4{x, y, z, w};                                 \
    }
EMU_VECTOR2(uchar, unsigned char)
EMU_VECTOR2(short, short)
EMU_VECTOR2(ushort, unsigned short)
EMU_VECTOR2(int, int)
EMU_VECTOR2(uint, unsigned)
EMU_VECTOR2(float, float)
EMU_VECTOR2(double, double)
EMU_VECTOR4(uchar, unsigned char)
EMU_VECTOR4(short, short)
EMU_VECTOR4(ushort, unsigned short)
EMU_VECTOR4(int, int)
EMU_VECTOR4(uint, unsigned)
EMU_VECTOR4(float, float)
#undef EMU_VECTOR2
#undef EMU_VECTOR4

typedef struct emu_stream *cudaStream_t;
typedef struct emu_event *cudaEvent_t;
typedef struct emu_graph *cudaGraph_t;
typedef struct emu_graph_exec *cudaGraphExec_t;

#endif
