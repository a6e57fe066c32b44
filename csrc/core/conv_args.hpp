// conv_args: what crosses from the bindings to a backend for convolutions. An image's element (b, h, w, c) lies at
// b*batch + h*row + w*col + c*channel elements from its data, whatever the order of its axes in the caller's array.
#pragma once

#include "core/args.hpp"

namespace fusedrop {

template <class Pointer>
struct ImageAt {
  Pointer data = nullptr;
  i64 batch = 0, row = 0, col = 0, channel = 0;
};
using Image = ImageAt<const void*>;
using OutputImage = ImageAt<void*>;

struct Conv2dSizes {
  i64 B, H, W, C;            // x
  i64 OH, OW, N;             // y: B images of OH x OW pixels and N channels
  i64 KH, KW;                // the kernel,
  i64 stride_h, stride_w;    // its steps,
  i64 padding_h, padding_w;  // and the zeros around x
};

struct Conv2dForwardArgs {
  Dtype dtype;
  Conv2dSizes sizes;
  Image x;  // [B,H,W,C]
  Image w;  // [N,KH,KW,C]: output channel n for b
  const void* b;  // [N] or null
  i64 b_stride;
  OutputImage y;  // [B,OH,OW,N], dense
  OutputImage z;  // likewise, or null data: the pre-activation, for backward
  Activation activation;
  bool before;
  Mask mask;        // of y seen as [B*OH*OW, N]
  Mask input_mask;  // of x seen as [B*H*W, C]
};

struct Conv2dBackwardArgs {
  Dtype dtype;
  Conv2dSizes sizes;
  Image dy;    // [B,OH,OW,N]
  Image x;     // [B,H,W,C]
  Image w;     // [N,KH,KW,C]
  Image kept;  // [B,OH,OW,N]: y or z as `saved` says, or null data
  Saved saved;
  OutputImage dx;  // [B,H,W,C], dense, or null data when not wanted
  OutputImage dw;  // [N,KH,KW,C], dense, or null data
  void* db;        // [N] or null
  Activation activation;
  bool before;
  Mask mask;
  Mask input_mask;
};

}  // namespace fusedrop
