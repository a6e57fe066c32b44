// conv2d_forward: y = dropout(act(conv(dropout(x), w) + b)), as the product of linear_forward with a matrix of patches
//   x [B,H,W,C], w [N,KH,KW,C], any strides | b [N] or null | y, z [B,OH,OW,N], pixels or channels side by side
//   mask over y as [B*OH*OW, N], of x as [B*H*W, C]: the same whatever the order of the axes in memory
// Work      2 * B*OH*OW * N * KH*KW*C flop; x is copied once for each chunk of pixels (conv_stage.hpp), a patch once for N outputs
// Numerics  one chain of fma over (kh, kw, c): the same bits for any threads, chunks and layout
// Limits    any size >= 0; no read past the last element; re-entrant; memory from scratch.hpp only
#pragma once

#include "cpu/conv_images.hpp"
#include "cpu/linear_forward.inl"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class S>
struct Conv2dForwardJob {
  using T = sum_of<S>;
  static constexpr i64 kChunk = 4 * Tiling<T>::MC;  // pixels between two packings of w
  const Conv2dForwardArgs& args;
  Window window;
  Keeper input_keeper;
  typename ForwardSink<S>::Finish finish;
  bool direct;  // y is a matrix of pixels: the product is stored where the caller wants it
  Grid grid;
  BufferLayout<S> layout;
  i64 stage_at = 0, y_at = 0, z_at = 0, size = 0;  // in a thread's memory
  char* const* memory = nullptr;  // a buffer a thread, and one more for w
  S* w = nullptr;  // [K,N]

  explicit Conv2dForwardJob(const Conv2dForwardArgs& a)
      : args(a),
        window(input_window(a.sizes)),
        input_keeper(a.input_mask),
        finish(with_activation(a.activation,
                               [](auto act) -> typename ForwardSink<S>::Finish {
                                 return &ForwardSink<S>::template finish_tile<decltype(act)>;
                               })),
        direct(is_pixel_matrix(a.y, a.sizes.OH, a.sizes.OW, a.sizes.N)) {
    const Conv2dSizes& s = a.sizes;
    // In multiply-adds an element: a patch's share of the stage and its copy, and w's panels.
    grid = choose_grid({window.pixels(), s.N, window.depth(), 30, 4, 4, kGroup});
    layout = BufferLayout<S>(Order::by_rows, grid.col_chunk, window.depth(), false);
    allocate();
    weight_by_taps(a.w, s.KH, s.KW, a.w.channel, s.C, a.w.batch, s.N, w);
  }

  void allocate() {
    ScratchLayout extra;
    extra.add(layout.size());
    const i64 chunk = minimum(kChunk, window.pixels()), image = direct ? 0 : chunk * args.sizes.N * i64{sizeof(S)};
    stage_at = extra.add(Stage<T>::room(window, chunk) * i64{sizeof(T)});
    y_at = extra.add(image);
    z_at = extra.add(args.z.data == nullptr ? 0 : image);
    size = extra.size();
    const i64 weight = window.depth() * args.sizes.N * i64{sizeof(S)};
    memory = scratch(grid.threads() + 1, maximum(size, weight));
    w = reinterpret_cast<S*>(memory[grid.threads()]);
  }

  void run(int thread) {
    const Range rows = grid_rows(grid, thread, window.pixels()), cols = grid_cols(grid, thread, args.sizes.N);
    for (i64 m = rows.begin; m < rows.end && cols.size() > 0; m += kChunk)
      run_chunk({m, minimum(m + kChunk, rows.end)}, cols, memory[thread]);
  }

  void run_chunk(Range pixels, Range cols, char* mine) {
    Stage<T> stage(window);
    stage.fill(pixels, reinterpret_cast<T*>(mine + stage_at), [&](i64 b, i64 h, i64 col, i64 n, T* dst) {
      const Conv2dSizes& s = args.sizes;
      load_pixels(pixel_row<S>(args.x, b, h, col), n, s.C, dst);
      drop_pixels(input_keeper, (b * s.H + h) * s.W + col, 1, n, s.C, dst);
    });
    LinearForwardArgs product = product_of(pixels, mine);
    const Keeper keeper(product.mask);
    ForwardSink<S> sink(product, keeper, finish, T(0), layout.words(mine));
    auto pack_a = [&](i64 i, i64 rows, i64 k, i64 depth, T* dst, bool) {
      pack_patch_rows(stage, {pixels.begin + i, pixels.begin + i + rows}, k, depth, dst);
    };
    auto pack_b = [&](i64 k, i64 depth, i64 j, i64 width, T* dst) {
      pack_panels<Tiling<T>::NR>(View<S>(w + k * product.N + j, product.N, 1), depth, width, dst);
    };
    gemm_rectangle<Order::by_rows, S>({0, product.M}, cols, pack_a, pack_b, sink, layout.buffers(mine));
    if (direct) return;
    unload(pixels, cols, static_cast<const S*>(product.y), args.y);
    if (product.z != nullptr) unload(pixels, cols, static_cast<const S*>(product.z), args.z);
  }

  // The linear layer that these pixels are.
  LinearForwardArgs product_of(Range pixels, char* mine) const {
    LinearForwardArgs product{};
    product.dtype = args.dtype;
    product.M = pixels.size(), product.N = args.sizes.N, product.K = window.depth();
    product.b = args.b, product.b_stride = args.b_stride;
    const auto at = [&](const OutputImage& image, i64 scratch_at) -> void* {
      if (image.data == nullptr) return nullptr;
      return direct ? static_cast<S*>(image.data) + pixels.begin * product.N : reinterpret_cast<S*>(mine + scratch_at);
    };
    product.y = at(args.y, y_at);
    product.z = at(args.z, z_at);
    product.activation = args.activation;
    product.before = args.before;
    product.mask = args.mask;
    product.mask.row0 += static_cast<u64>(pixels.begin);
    return product;
  }

  void unload(Range pixels, Range cols, const S* src, const OutputImage& image) const {
    const i64 plane = args.sizes.OH * args.sizes.OW, N = args.sizes.N;
    visit_rows_of_pixels(pixels, 1, plane, [&](i64 b, i64, i64 pixel, i64 n, i64 offset) {
      S* dst = static_cast<S*>(image.data) + b * image.batch + pixel * image.col + cols.begin * image.channel;
      unload_pixels(src + offset * N + cols.begin, N, n, cols.size(), dst, image.col, image.channel);
    });
  }
};

template <class S>
void conv2d_forward_typed(const Conv2dForwardArgs& args) {
  Conv2dForwardJob<S> job(args);
  run_threads(job.grid.threads(), [](int thread, void* p) { static_cast<Conv2dForwardJob<S>*>(p)->run(thread); }, &job);
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
