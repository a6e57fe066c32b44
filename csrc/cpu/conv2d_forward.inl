// conv2d_forward: y = dropout(act(conv(dropout(x), w) + b)), as the product of linear_forward with a matrix of patches
//   x [B,H,W,C], w [N,KH,KW,C], any strides | b [N] or null | y, z [B,OH,OW,N], pixels or channels side by side
//   mask over y as [B*OH*OW, N], of x as [B*H*W, C]: the same whatever the order of the axes in memory
// Work      2 * B*OH*OW * N * KH*KW*C flop; a chunk of pixels copies the rows of x it reads, and a patch once for N outputs
// Numerics  one chain of fma over (kh, kw, c): the same bits for any threads, chunks and layout
// Limits    any size >= 0; no read past the last element; re-entrant; memory from scratch.hpp only
#pragma once

#include "cpu/conv_images.hpp"
#include "cpu/conv_product.hpp"
#include "cpu/linear_forward.inl"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class S>
struct Conv2dForwardJob {
  using T = sum_of<S>;
  const Conv2dForwardArgs& args;
  Window window;
  Keeper input_keeper;
  typename ForwardSink<S>::Finish finish;
  bool direct;  // y is a matrix of pixels: finished where the caller wants it
  Grid grid;
  ConvProduct<T> product;
  i64 stage_at = 0, sums_at = 0, words_at = 0, y_at = 0, z_at = 0;  // in a thread's memory
  char* const* memory = nullptr;  // a buffer a thread, and one more for w
  const T* packed = nullptr;  // w as [K,N], in panels

  explicit Conv2dForwardJob(const Conv2dForwardArgs& a)
      : args(a),
        window(input_window(a.sizes)),
        input_keeper(a.input_mask),
        finish(with_activation(a.activation,
                               [](auto act) -> typename ForwardSink<S>::Finish {
                                 return &ForwardSink<S>::template finish_tile<decltype(act)>;
                               })),
        direct(is_pixel_matrix(a.y, a.sizes.OH, a.sizes.OW, a.sizes.N)) {
    // In multiply-adds an element: a patch's share of the stage and its copy. w is packed for all.
    grid = choose_grid({window.pixels(), a.sizes.N, window.depth(), 30, 0, 4, kGroup});
    product = ConvProduct<T>(window, grid.col_chunk);
    allocate();
  }

  void allocate() {
    const i64 N = args.sizes.N, chunk = product.chunk(), image = direct ? 0 : chunk * N * i64{sizeof(S)};
    ScratchLayout mine;
    mine.add(product.size());
    stage_at = mine.add(Stage<T>::room(window, chunk) * i64{sizeof(T)});
    sums_at = mine.add(chunk * N * i64{sizeof(T)});
    words_at = mine.add(keep_room(Tiling<T>::MC) * i64{sizeof(u32)});
    y_at = mine.add(image);
    z_at = mine.add(args.z.data == nullptr ? 0 : image);
    ScratchLayout shared;
    shared.add(packed_room<T>(window.depth(), N));
    const i64 w_at = shared.add(window.depth() * N * i64{sizeof(S)});
    memory = scratch(grid.threads() + 1, maximum(mine.size(), shared.size()));
    char* weights = memory[grid.threads()];
    const Conv2dSizes& s = args.sizes;
    S* w = reinterpret_cast<S*>(weights + w_at);
    weight_by_taps(args.w, s.KH, s.KW, args.w.channel, s.C, args.w.batch, N, w);
    pack_panels<Tiling<T>::NR>(View<S>(w, N, 1), window.depth(), N, reinterpret_cast<T*>(weights));
    packed = reinterpret_cast<const T*>(weights);
  }

  void run(int thread) {
    const Range rows = grid_rows(grid, thread, window.pixels()), cols = grid_cols(grid, thread, args.sizes.N);
    if (cols.size() <= 0) return;
    visit_chunks(window, rows, product.chunk(), [&](Range pixels) { run_chunk(pixels, cols, memory[thread]); });
  }

  void run_chunk(Range pixels, Range cols, char* mine) {
    Stage<T> stage(window);
    stage.fill(pixels, reinterpret_cast<T*>(mine + stage_at), input_loader<S>(args, input_keeper));
    T* sums = reinterpret_cast<T*>(mine + sums_at);
    product.run(stage, pixels, cols, packed, mine, sums, args.sizes.N);
    const LinearForwardArgs layer = layer_of(pixels, mine);
    const Keeper keeper(layer.mask);
    ForwardSink<S> sink(layer, keeper, finish, T(0), reinterpret_cast<u32*>(mine + words_at));
    finish_rows(layer.M, cols, sums, layer.N, sink);
    if (direct) return;
    unload(pixels, cols, static_cast<const S*>(layer.y), args.y);
    if (layer.z != nullptr) unload(pixels, cols, static_cast<const S*>(layer.z), args.z);
  }

  // What gemm.hpp does with the tiles of a product's last block.
  static void finish_rows(i64 rows, Range cols, const T* sums, i64 ld, ForwardSink<S>& sink) {
    constexpr i64 MR = Tiling<T>::MR, NR = Tiling<T>::NR, MC = Tiling<T>::MC;
    alignas(64) T tile[MR * NR];
    for (i64 ic = 0; ic < rows; ic += MC)
      for (i64 js = cols.begin; js < cols.end; js += kGroup) {
        const i64 end = minimum(ic + MC, rows), width = minimum(kGroup, cols.end - js);
        sink.begin_strip(ic, end - ic, js, width);
        for (i64 j = js; j < js + width; j += NR)
          for (i64 i = ic; i < end; i += MR) {
            const i64 m = minimum(MR, end - i), n = minimum(NR, js + width - j);
            copy_tile(sums + i * ld + j, ld, m, n, tile, NR);
            sink.finish(i, m, j, n, tile);
          }
      }
  }

  // The linear layer that these pixels are.
  LinearForwardArgs layer_of(Range pixels, char* mine) const {
    LinearForwardArgs layer{};
    layer.dtype = args.dtype;
    layer.M = pixels.size(), layer.N = args.sizes.N, layer.K = window.depth();
    layer.b = args.b, layer.b_stride = args.b_stride;
    const auto at = [&](const OutputImage& image, i64 scratch_at) -> void* {
      if (image.data == nullptr) return nullptr;
      return direct ? static_cast<S*>(image.data) + pixels.begin * layer.N : reinterpret_cast<S*>(mine + scratch_at);
    };
    layer.y = at(args.y, y_at);
    layer.z = at(args.z, z_at);
    layer.activation = args.activation;
    layer.before = args.before;
    layer.mask = args.mask;
    layer.mask.row0 += static_cast<u64>(pixels.begin);
    return layer;
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
