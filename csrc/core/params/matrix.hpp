// matrix: views of the caller's arrays, used by the structs of this folder.
#pragma once

#include "core/platform.hpp"

namespace fusedrop {

struct Matrix {  // a read-only strided view of an array; strides count elements
  const void* data = nullptr;
  i64 row_stride = 0;
  i64 col_stride = 0;
};

struct ActiveColumns {  // the columns of a matrix that take part; the others are dropped, or known to be zero
  i64 count = 0;
  const i64* index = nullptr;  // [count] ascending; null: all columns are active
  const u32* words = nullptr;  // the same list as bits, 32 columns per word, and one spare word at the end
};

}  // namespace fusedrop
