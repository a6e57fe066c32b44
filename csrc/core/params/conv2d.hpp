// conv2d: the plain structs of convolutions that cross from the bindings to a backend. Element (b, h, w, c) of an image
// lies at b*batch + h*row + w*col + c*channel elements from its data, for any order of axes in the caller's array.
// The bindings have checked all values.
#pragma once

#include "core/dtypes.hpp"
#include "core/params/epilogue.hpp"

namespace fusedrop {

template <class Pointer>
struct ImageView {
  Pointer data = nullptr;
  i64 batch = 0, row = 0, col = 0, channel = 0;  // strides, in elements
};
using Image = ImageView<const void*>;
using OutputImage = ImageView<void*>;

struct Conv2dSizes {
  i64 B, H, W, C;  // of x
  i64 OH, OW, N;  // of y: B images of OH x OW pixels and N channels
  i64 KH, KW;  // kernel height and width
  i64 stride_h, stride_w;  // between neighboring windows
  i64 padding_h, padding_w;  // zeros on each side of x
};

struct Conv2dForwardArgs {
  Dtype dtype;
  Conv2dSizes sizes;
  Image x;  // [B,H,W,C]
  Image w;  // [N,KH,KW,C]: its `batch` stride is that of output channels
  OutputImage y;  // [B,OH,OW,N], dense
  OutputImage z;  // [B,OH,OW,N], dense, or null data: the pre-activation, saved for backward
  EpilogueParams epilogue;  // y is viewed as [B*OH*OW, N]
  Mask input_mask;  // of x, viewed as [B*H*W, C]
};

struct Conv2dBackwardArgs {
  Dtype dtype;
  Conv2dSizes sizes;
  Image dy;  // [B,OH,OW,N]
  Image x;  // [B,H,W,C]
  Image w;  // [N,KH,KW,C]
  Image saved_activation;  // [B,OH,OW,N]: y or z as epilogue.saved_kind says, or null data
  OutputImage dx;  // [B,H,W,C], dense, or null data when not wanted
  OutputImage dw;  // [N,KH,KW,C], dense, or null data when not wanted
  void* db;  // [N], or null when not wanted
  EpilogueParams epilogue;  // this and input_mask: as in forward
  Mask input_mask;
};

}  // namespace fusedrop
