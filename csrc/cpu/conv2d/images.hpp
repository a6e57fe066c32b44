// images: reads and writes the caller's images, with contiguous channels or contiguous planes. Applies the mask of x if
// the layer drops its input.
#pragma once

#include "cpu/conv2d/stage.hpp"
#include "cpu/gemm/mask_bits.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

// Pixels of row h of image b, from column w on: element (pixel, channel).
template <class S, class P>
View<S> pixel_row(const ImageView<P>& image, i64 b, i64 h, i64 w) {
  const S* data = static_cast<const S*>(image.data) + b * image.batch + h * image.row + w * image.col;
  return View<S>(data, image.col, image.channel);
}

// Whether the images are a matrix of pixels: pixels lie one after the other, with contiguous channels.
template <class P>
bool is_pixel_matrix(const ImageView<P>& image, i64 H, i64 W, i64 C) {
  return image.channel == 1 && image.col == C && image.row == W * C && image.batch == H * W * C;
}

// Splits pixels [begin, end) of [*, rows, cols] at the ends of rows. Calls visit(b, h, w, n, offset) for each piece.
template <class Visit>
FD_FN void visit_rows_of_pixels(Range pixels, i64 rows, i64 cols, Visit visit) {
  for (i64 m = pixels.begin; m < pixels.end;) {
    const i64 row = m / cols, w = m - row * cols, n = minimum(cols - w, pixels.end - m);
    visit(row / rows, row % rows, w, n, m - pixels.begin);
    m += n;
  }
}

struct PixelRun {  // pixels first, first + stride, ... of all images
  i64 first, stride, n;
};

// Dropout of some channels of a run of pixels, which lie ld elements apart:
// pixels[m*ld + c] = keep(first + m*stride, c) ? pixels[m*ld + c] * scale : 0.
template <class T>
void drop_pixels(const MaskBits& mask_bits, const PixelRun& run, Range channels, T* pixels, i64 ld) {
  using V = Vec<T>;
  constexpr i64 kAtOnce = 4 * kGroup;  // columns of one call of keep_words4
  if (mask_bits.keeps_all()) return;
  const T scale = static_cast<T>(keep_scale(mask_bits.mask().threshold));
  u32 words[mask_bits_room(4)];
  for (i64 m = 0; m < run.n; ++m)
    for (i64 j = channels.begin; j < channels.end; j += kAtOnce) {
      const i64 width = minimum(kAtOnce, channels.end - j);
      mask_bits.row(run.first + m * run.stride, j, divide_up(width, kGroup), words);
      T* p = pixels + m * ld + j;
      i64 c = 0;
      for (; c + V::W <= width; c += V::W)
        select(V::lanes(words[c / kGroup] >> (c % kGroup)), V::load(p + c) * V(scale), V(T(0))).store(p + c);
      for (; c < width; ++c) p[c] = (words[c / kGroup] >> (c % kGroup)) & 1 ? p[c] * scale : T(0);
    }
}

// Copies pixels of the caller's image to contiguous channels, in the accumulator type.
template <class S, class T = acc_t<S>>
void load_pixels(View<S> pixels, i64 n, i64 C, T* dst) {
  if (pixels.cs == 1 && pixels.rs == C) return copy_row(pixels.p, n * C, dst);
  pack_rows(pixels, n, C, dst, C);
}

// Returns the function that loads pixels of x into a stage.
template <class S, class Args>
auto input_loader(const Args& args, const MaskBits& mask_bits) {
  return [&](i64 b, i64 h, i64 w, i64 n, acc_t<S>* dst) {
    const Conv2dSizes& s = args.sizes;
    load_pixels(pixel_row<S>(args.x, b, h, w), n, s.C, dst);
    drop_pixels(mask_bits, {(b * s.H + h) * s.W + w, 1, n}, {0, s.C}, dst, s.C);
  };
}

// Copies n pixels of C channels to the caller's image, whose strides are `pixel` and `channel`.
template <class S>
void unload_pixels(RowMajor<const S> src, i64 n, i64 C, S* dst, i64 pixel, i64 channel) {
  if (channel == 1) return relayout(View<S>(src.p, src.ld, 1), n, C, dst, pixel);
  if (pixel == 1) return relayout(View<S>(src.p, 1, src.ld), C, n, dst, channel);
  for (i64 m = 0; m < n; ++m)
    for (i64 c = 0; c < C; ++c) dst[m * pixel + c * channel] = src.p[m * src.ld + c];
}

struct WeightAxis {  // the input or the output channels of a weight
  i64 stride, size;
};

// Reorders the weight by taps: dst[(tap*outer.size + o)*inner.size + i] = w(o, i, tap).
template <class S>
void weight_by_taps(const Image& w, const Conv2dSizes& s, WeightAxis outer, WeightAxis inner, S* dst) {
  const S* data = static_cast<const S*>(w.data);
  const bool together = w.row == s.KW * w.col;  // one call for all taps, not one per row of taps
  for (i64 o = 0; o < outer.size; ++o)
    for (i64 kh = 0; kh < (together ? 1 : s.KH); ++kh)
      relayout(View<S>(data + o * outer.stride + kh * w.row, w.col, inner.stride), together ? s.KH * s.KW : s.KW,
               inner.size, dst + (kh * s.KW * outer.size + o) * inner.size, outer.size * inner.size);
}

// Size in bytes of a matrix [depth, cols] in panels.
template <class T>
i64 packed_room(i64 depth, i64 cols) {
  return depth * round_up(cols, Tiling<T>::NR) * i64{sizeof(T)};
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
