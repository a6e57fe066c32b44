// vec: the SIMD vector Vec<T> of the instruction set for which this object file is compiled.
//
//   Vec<T>::W lanes | unaligned load, store; loads of bfloat16 widen, stores round | explicit Vec(T) broadcasts
//   + - * / fma min max abs sqrt copy_sign round_even pow2, with the meaning of core/scalar.hpp
//   LaneMask: the condition type of select; Vec<T>::lanes(bits) makes it from the low W bits, bit i for lane i
//   transpose(row, dst, ldd): transposes a W x W block, dst[j*ldd + i] = row(i)[j]
//   compress(bits, v), expand(bits, v): move the chosen lanes to the front, and back. For instruction sets other than
//     AVX-512, cpu/gemm/active_columns.hpp defines them
//   keep_words4(keys, mask, quad, out): 32 keep bits for each of four (row, 32-column group) pairs
//
// FD_ISA_LEVEL is 0 for scalar, 1 for AVX2, 2 for AVX-512; FD_BF16_DOT 1 adds the pairs of cpu/simd/bf16.hpp.
// All of it is in an unnamed namespace inside the namespace of the instruction set: the object file exports no symbol.
#pragma once

#if FD_BF16_DOT
#include "cpu/simd/bf16.hpp"
#elif FD_ISA_LEVEL == 2
#include "cpu/simd/avx512.hpp"
#elif FD_ISA_LEVEL == 1
#include "cpu/simd/avx2.hpp"
#else
#include "cpu/simd/scalar.hpp"
#endif
