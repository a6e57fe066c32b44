// conv_window: a convolution as a product with a matrix of patches that nobody ever stores.
//
//   patch(m, k)   row m = (b*rows + r)*cols + c is a pixel of the result, column k = (th*taps_w + tw)*channels + ch
//               = image(b, r*step_h + top + th, c*step_w + left + tw, ch), 0 outside the image
//
//   forward    y = patch(x) wᵀ                                             dw = dzᵀ patch(x)
//   backward   dx's pixels (f_h + stride_h*r, f_w + stride_w*c) = patch(dz) w', one phase (f_h, f_w) after another:
//              of a phase's pixels every tap or none meets a pixel of dz, so that no product is with a zero between them
#pragma once

#include "core/conv_args.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

struct Window {
  i64 images = 0, rows = 0, cols = 0;  // pixels of the result
  i64 image_rows = 0, image_cols = 0, channels = 0;  // of the image that is read
  i64 taps_h = 0, taps_w = 0, step_h = 1, step_w = 1, top = 0, left = 0;

  i64 pixels() const { return images * rows * cols; }  // rows of the matrix
  i64 depth() const { return taps_h * taps_w * channels; }  // its columns
  i64 tap_row() const { return taps_w * channels; }  // columns that are neighbours in the image, too
};

FD_FN Window input_window(const Conv2dSizes& s) {
  return {s.B, s.OH, s.OW, s.H, s.W, s.C, s.KH, s.KW, s.stride_h, s.stride_w, -s.padding_h, -s.padding_w};
}

// One axis of a phase: which pixels of dx, and which taps of the kernel meet them.
struct Phase {
  i64 first = 0, step = 1, count = 0;  // pixels first + step*t, t < count
  i64 tap = 0, taps = 0;  // taps tap, tap + step, ...
  i64 origin = 0;  // the pixel of dz under the last of these taps, at t = 0

  static Phase of(i64 first, i64 size, i64 stride, i64 padding, i64 kernel) {
    Phase p;
    p.first = first, p.step = stride;
    p.count = first < size ? divide_up(size - first, stride) : 0;
    p.tap = (first + padding) % stride;
    p.taps = p.tap < kernel ? divide_up(kernel - p.tap, stride) : 0;
    p.origin = (first + padding - p.tap) / stride - (p.taps - 1);
    return p;
  }
  // The kernel's tap that patch column t of this phase stands for: dz is read forwards, so the kernel backwards.
  i64 tap_at(i64 t) const { return tap + step * (taps - 1 - t); }
};

FD_FN Window gradient_window(const Conv2dSizes& s, const Phase& h, const Phase& w) {
  return {s.B, h.count, w.count, s.OH, s.OW, s.N, h.taps, w.taps, 1, 1, h.origin, w.origin};
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
