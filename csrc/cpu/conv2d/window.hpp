// window: a convolution as a product with a matrix of patches, which is never stored as a whole.
//
//   patch(m, k) = image(b, r*stride_h + top + th, c*stride_w + left + tw, ch), 0 outside the image
//   row m = (b*rows + r)*cols + c is a pixel of the result; column k = (th*taps_w + tw)*channels + ch
//
//   forward    y = patch(x) wᵀ
//   backward   dw = dzᵀ patch(x)
//              dx = patch(dz) w', one phase (f_h, f_w) after another. The pixels of a phase are
//              (f_h + stride_h*r, f_w + stride_w*c). They all meet pixels of dz with the same taps, so no
//              multiplication is wasted on the zeros that a stride puts between the pixels of dz.
#pragma once

#include "core/params/conv2d.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

struct Window {
  i64 images = 0, rows = 0, cols = 0;  // sizes of the result
  i64 image_rows = 0, image_cols = 0, channels = 0;  // sizes of the image that is read
  i64 taps_h = 0, taps_w = 0, stride_h = 1, stride_w = 1, top = 0, left = 0;

  i64 pixels() const { return images * rows * cols; }  // rows of the matrix of patches
  i64 depth() const { return taps_h * taps_w * channels; }  // columns of the matrix
  i64 tap_row() const { return taps_w * channels; }  // columns that are also contiguous in the stage
};

FD_FN Window input_window(const Conv2dSizes& s) {
  return {s.B, s.OH, s.OW, s.H, s.W, s.C, s.KH, s.KW, s.stride_h, s.stride_w, -s.padding_h, -s.padding_w};
}

// One axis of a phase: its pixels of dx, and the taps of the kernel that meet them.
struct Phase {
  i64 first = 0, stride = 1, count = 0;  // pixels first + stride*t, t < count
  i64 tap = 0, taps = 0;  // `taps` taps: tap, tap + stride, ...
  i64 origin = 0;  // the pixel of dz that meets the last tap, for t = 0

  static Phase of(i64 first, i64 size, i64 stride, i64 padding, i64 kernel) {
    Phase p;
    p.first = first, p.stride = stride;
    p.count = first < size ? divide_up(size - first, stride) : 0;
    p.tap = (first + padding) % stride;
    p.taps = p.tap < kernel ? divide_up(kernel - p.tap, stride) : 0;
    p.origin = (first + padding - p.tap) / stride - (p.taps - 1);
    return p;
  }
  // The kernel tap for tap t of a patch of this phase: dz is read forwards, so the kernel is read backwards.
  i64 tap_at(i64 t) const { return tap + stride * (taps - 1 - t); }
};

FD_FN Window gradient_window(const Conv2dSizes& s, const Phase& h, const Phase& w) {
  return {s.B, h.count, w.count, s.OH, s.OW, s.N, h.taps, w.taps, 1, 1, h.origin, w.origin};
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
