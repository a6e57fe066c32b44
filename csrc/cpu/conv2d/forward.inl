// conv2d_forward: y = dropout(act(conv(dropout(x), w) + b)), computed as the product of a matrix of patches with w
//   x [B,H,W,C], w [N,KH,KW,C], any strides | b [N] or null | y, z [B,OH,OW,N], contiguous pixels or channels
//   mask of y as [B*OH*OW, N], of x as [B*H*W, C]: the same for any order of axes in memory
// Work      2 * B*OH*OW * N * KH*KW*C flop; a chunk of pixels copies the rows of x that it reads, and copies each patch
//           once for all N outputs
// Numerics  one chain of fma over (kh, kw, c): the same bits for any threads, chunks and layout
// Limits    any size >= 0; no read past the last element; re-entrant; memory only from cpu/runtime/scratch.hpp
#pragma once

#include "cpu/conv2d/images.hpp"
#include "cpu/conv2d/product.hpp"
#include "cpu/linear/forward.inl"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class S>
struct Conv2dForwardJob {
  using T = acc_t<S>;
  const Conv2dForwardArgs& args;
  Window window;
  MaskBits input_mask_bits;
  typename EpilogueSink<S>::TileEpilogue tile_epilogue;
  bool direct;  // y is a matrix of pixels: the epilogue writes to the caller's array
  ThreadGrid grid;
  Conv2dProduct<T> product;
  i64 stage_at = 0, sums_at = 0, words_at = 0, y_at = 0, z_at = 0;  // offsets in the memory of a thread
  char* const* memory = nullptr;  // one buffer per thread, and one more for w
  const T* packed = nullptr;  // w as [K,N], in panels

  explicit Conv2dForwardJob(const Conv2dForwardArgs& a)
      : args(a),
        window(input_window(a.sizes)),
        input_mask_bits(a.input_mask),
        tile_epilogue(with_activation(a.activation,
                                      [](auto act) -> typename EpilogueSink<S>::TileEpilogue {
                                        return &EpilogueSink<S>::template epilogue_tile<decltype(act)>;
                                      })),
        direct(is_pixel_matrix(a.y, a.sizes.OH, a.sizes.OW, a.sizes.N)) {
    // Costs in multiply-adds per element: 30 for staging and copying a patch; 0 for w, which all threads share.
    grid = choose_grid({window.pixels(), a.sizes.N, window.depth(), 30, 0, 4, kGroup});
    product = Conv2dProduct<T>(window, grid.col_chunk);
    allocate();
  }

  void allocate() {
    const i64 N = args.sizes.N, chunk = product.chunk(), image = direct ? 0 : chunk * N * i64{sizeof(S)};
    ScratchLayout per_thread;
    per_thread.add(product.size());
    stage_at = per_thread.add(Stage<T>::room(window, chunk) * i64{sizeof(T)});
    sums_at = per_thread.add(chunk * N * i64{sizeof(T)});
    words_at = per_thread.add(mask_bits_room(Tiling<T>::MC) * i64{sizeof(u32)});
    y_at = per_thread.add(image);
    z_at = per_thread.add(args.z.data == nullptr ? 0 : image);
    ScratchLayout shared;
    shared.add(packed_room<T>(window.depth(), N));
    const i64 w_at = shared.add(window.depth() * N * i64{sizeof(S)});
    memory = scratch(grid.threads() + 1, maximum(per_thread.size(), shared.size()));
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

  void run_chunk(Range pixels, Range cols, char* thread_memory) {
    Stage<T> stage(window);
    stage.fill(pixels, reinterpret_cast<T*>(thread_memory + stage_at), input_loader<S>(args, input_mask_bits));
    T* sums = reinterpret_cast<T*>(thread_memory + sums_at);
    product.run(stage, pixels, cols, packed, thread_memory, sums, args.sizes.N);
    const LinearForwardArgs layer = layer_of(pixels, thread_memory);
    const MaskBits mask_bits(layer.mask);
    EpilogueSink<S> sink(layer, mask_bits, tile_epilogue, T(0), reinterpret_cast<u32*>(thread_memory + words_at));
    run_epilogue(layer.M, cols, sums, layer.N, sink);
    if (direct) return;
    unload(pixels, cols, static_cast<const S*>(layer.y), args.y);
    if (layer.z != nullptr) unload(pixels, cols, static_cast<const S*>(layer.z), args.z);
  }

  // Passes the sums to the sink tile by tile, as cpu/gemm/loops.hpp does in the last block of K.
  static void run_epilogue(i64 rows, Range cols, const T* sums, i64 ld, EpilogueSink<S>& sink) {
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
            sink.epilogue(i, m, j, n, tile);
          }
      }
  }

  // Describes these pixels as the rows of a linear layer.
  LinearForwardArgs layer_of(Range pixels, char* thread_memory) const {
    LinearForwardArgs layer{};
    layer.dtype = args.dtype;
    layer.M = pixels.size(), layer.N = args.sizes.N, layer.K = window.depth();
    layer.b = args.b, layer.b_stride = args.b_stride;
    const auto at = [&](const OutputImage& image, i64 offset) -> void* {
      if (image.data == nullptr) return nullptr;
      return direct ? static_cast<S*>(image.data) + pixels.begin * layer.N
                    : reinterpret_cast<S*>(thread_memory + offset);
    };
    layer.y = at(args.y, y_at);
    layer.z = at(args.z, z_at);
    layer.activation = args.activation;
    layer.dropout_first = args.dropout_first;
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
