// vec: the SIMD pack Vec<T> of the instruction set that this object file is compiled for.
//
//   Vec<T>::W lanes | load, store (unaligned; of bfloat16 too: widened, rounded) | explicit Vec(T) broadcasts
//   + - * / fma min max abs sqrt copy_sign round_even pow2, as core/scalar.hpp has them
//   LaneMask = what select takes; Vec<T>::lanes(bits) makes one from the low W bits, bit i for lane i
//   transpose(row, dst, ldd): a W x W block, dst[j*ldd + i] = row(i)[j]
//   compress(bits, v), expand(bits, v): chosen lanes to the front, and back; kept.hpp has them where AVX-512 is missing
//   keep_words4(keys, mask, quad, out): 32 keep bits for each of four (row, 32-column group) pairs
//
// FD_ISA_LEVEL 0 scalar, 1 AVX2, 2 AVX-512; FD_BF16_DOT 1 adds the pairs of vec_bf16.hpp.
// Everything sits in an unnamed namespace inside the instruction set's own: no symbol leaves the object file.
#pragma once

#if FD_BF16_DOT
#include "cpu/vec_bf16.hpp"
#elif FD_ISA_LEVEL == 2
#include "cpu/vec_avx512.hpp"
#elif FD_ISA_LEVEL == 1
#include "cpu/vec_avx2.hpp"
#else
#include "cpu/vec_scalar.hpp"
#endif
