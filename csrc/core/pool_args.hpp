// pool_args: the structs of pooling that cross from the bindings to a backend. Strides count elements; everything is checked
// before it gets here.
#pragma once

#include "core/args.hpp"

namespace fusedrop {

enum class PoolKind { max, average };

// Window i covers padded positions i * stride ... i * stride + kernel - 1; at least one is in the image.
struct PoolAxis {
  i64 in, out, kernel, stride, padding;
  FD_FN i64 top(i64 i) const { return i * stride - padding; }  // where window i starts, below 0 in the padding
  FD_FN i64 begin(i64 i) const { return maximum(top(i), 0); }
  FD_FN i64 end(i64 i) const { return minimum(top(i) + kernel, in); }
};

// What the divisor of an average counts of window i.
FD_FN i64 counted(const PoolAxis& axis, i64 i, bool padding) {
  if (!padding) return axis.end(i) - axis.begin(i);
  return minimum(axis.top(i) + axis.kernel, axis.in + axis.padding) - axis.top(i);
}

struct PoolShape {
  Dtype dtype;
  PoolKind kind;
  bool channels_last;  // then the stride of channels is 1, in every array
  i64 images, channels;
  PoolAxis rows, cols;
  bool count_padding;  // average: the divisor counts what a window covers of the padding
  FD_FN i64 planes() const { return images * channels; }
};

struct Images {  // a strided view
  void* data = nullptr;
  i64 image = 0, channel = 0, row = 0, col = 0;
};

struct PoolForwardArgs {
  PoolShape shape;
  Images x;  // read only
  Images y;  // C order
  Images positions;  // max: of the winner in its window, kernel row * kernel width + kernel column; as y
  int position_bytes;  // 1, 2 or 4
};

struct PoolBackwardArgs {
  PoolShape shape;
  Images dy;  // read only
  Images positions;  // max: as forward wrote them
  int position_bytes;
  Images dx;  // C order
};

}  // namespace fusedrop
