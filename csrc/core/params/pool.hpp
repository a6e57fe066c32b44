// pool: the plain structs of pooling that cross from the bindings to a backend. Strides count elements. The bindings
// have checked all values.
#pragma once

#include "core/dtypes.hpp"

namespace fusedrop {

enum class PoolKind { max, average };

// One axis. Window i covers padded positions [i * stride, i * stride + kernel); at least one of them is in the image.
struct PoolAxis {
  i64 in, out, kernel, stride, padding;
  FD_FN i64 top(i64 i) const { return i * stride - padding; }  // start of window i; negative in the padding
  FD_FN i64 begin(i64 i) const { return maximum(top(i), 0); }  // [begin, end): the part of window i inside the image
  FD_FN i64 end(i64 i) const { return minimum(top(i) + kernel, in); }
};

// Number of positions of window i that the divisor of an average counts.
FD_FN i64 divisor_size(const PoolAxis& axis, i64 i, bool count_padding) {
  if (!count_padding) return axis.end(i) - axis.begin(i);
  return minimum(axis.top(i) + axis.kernel, axis.in + axis.padding) - axis.top(i);
}

struct PoolShape {
  Dtype dtype;
  PoolKind kind;
  bool channels_last;  // then the channel stride is 1 in all arrays
  i64 images, channels;
  PoolAxis rows, cols;
  bool count_padding;  // average: the divisor also counts the padding that a window covers
  FD_FN i64 planes() const { return images * channels; }
};

struct Images {  // a strided view; the other members are strides
  void* data = nullptr;
  i64 image = 0, channel = 0, row = 0, col = 0;
};

struct PoolForwardArgs {
  PoolShape shape;
  Images x;  // read only
  Images y;  // C order
  Images positions;  // max: position of the maximum in its window, kernel row * kernel width + kernel column; as y
  int position_bytes;  // size of one position: 1, 2 or 4
};

struct PoolBackwardArgs {
  PoolShape shape;
  Images dy;  // read only
  Images positions;  // max: written by forward
  int position_bytes;
  Images dx;  // C order
};

}  // namespace fusedrop
