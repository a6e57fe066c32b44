// vec: the SIMD pack Vec<T> of the instruction set that this object file is compiled for.
//
//   Vec<T>::W lanes | load, store (unaligned) | explicit Vec(T) broadcasts
//   + - * / fma min max abs copy_sign round_even pow2, as core/scalar.hpp has them
//   LaneMask = what select takes; Vec<T>::lanes(bits) makes one from the low W bits, bit i for lane i
//   transpose(src, ld, dst, ldd): a W x W block, dst[j*ldd + i] = src[i*ld + j]
//   keep_words4(keys, mask, quad, out): 32 keep bits for each of four (row, 32-column group) pairs
//
// Everything sits in an unnamed namespace inside the instruction set's own: no symbol leaves the object file.
#pragma once

#if FD_ISA_LEVEL == 2
#include "cpu/vec_avx512.hpp"
#elif FD_ISA_LEVEL == 1
#include "cpu/vec_avx2.hpp"
#else
#include "cpu/vec_scalar.hpp"
#endif
