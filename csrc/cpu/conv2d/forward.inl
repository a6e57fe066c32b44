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
#include "cpu/gemm/epilogue_sink.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class S>
struct Conv2dForwardJob {
  using T = acc_t<S>;
  using Sink = EpilogueSink<S, AllIndices>;
  const Conv2dForwardArgs& args;
  Window window;
  MaskBits input_mask_bits;
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
    weight_by_taps(args.w, s, {args.w.channel, s.C}, {args.w.batch, N}, w);
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
    product.run(stage, pixels, cols, packed, thread_memory, {sums, args.sizes.N});
    const EpilogueArrays<S> arrays = arrays_of(pixels, thread_memory);
    Mask mask = args.epilogue.mask;
    mask.row0 += static_cast<u64>(pixels.begin);
    const MaskBits mask_bits(mask);
    Sink sink(args.epilogue, arrays, AllIndices(args.sizes.N), mask_bits,
              reinterpret_cast<u32*>(thread_memory + words_at));
    run_epilogue(pixels.size(), cols, sums, sink);
    if (direct) return;
    unload(pixels, cols, arrays.y, args.y);
    if (arrays.z != nullptr) unload(pixels, cols, arrays.z, args.z);
  }

  // Passes the sums to the sink tile by tile, as cpu/gemm/loops.hpp does in the last block of K.
  void run_epilogue(i64 rows, Range cols, const T* sums, Sink& sink) const {
    constexpr i64 NR = Tiling<T>::NR, MC = Tiling<T>::MC;
    const i64 ld = args.sizes.N;
    alignas(64) T tile[Tiling<T>::MR * NR];
    for (i64 ic = 0; ic < rows; ic += MC)
      for (i64 j = cols.begin; j < cols.end; j += kGroup) {
        const Rect strip{ic, minimum(MC, rows - ic), j, minimum(kGroup, cols.end - j)};
        sink.begin_strip(strip);
        visit_tiles<T>(strip, [&](const Rect& at) {
          copy_tile(sums + at.i * ld + at.j, ld, at.rows, at.cols, tile, NR);
          sink.epilogue(at, tile);
        });
      }
  }

  // The pixels as rows of a matrix: in the caller's arrays, or in the memory of the thread.
  EpilogueArrays<S> arrays_of(Range pixels, char* thread_memory) const {
    const i64 N = args.sizes.N;
    const auto at = [&](const OutputImage& image, i64 offset) -> S* {
      if (image.data == nullptr) return nullptr;
      return direct ? static_cast<S*>(image.data) + pixels.begin * N : reinterpret_cast<S*>(thread_memory + offset);
    };
    return {at(args.y, y_at), at(args.z, z_at), N};
  }

  void unload(Range pixels, Range cols, const S* src, const OutputImage& image) const {
    const i64 plane = args.sizes.OH * args.sizes.OW, N = args.sizes.N;
    visit_rows_of_pixels(pixels, 1, plane, [&](i64 b, i64, i64 pixel, i64 n, i64 offset) {
      S* dst = static_cast<S*>(image.data) + b * image.batch + pixel * image.col + cols.begin * image.channel;
      unload_pixels(RowMajor<const S>{src + offset * N + cols.begin, N}, n, cols.size(), dst, image.col, image.channel);
    });
  }
};

template <class S>
void conv2d_forward_typed(const Conv2dForwardArgs& args) {
  Conv2dForwardJob<S> job(args);
  parallel_for(job.grid.threads(), [&](int thread) { job.run(thread); });
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
