// conv2d_backward: dz = dy * mask * act', dx = the transposed convolution of dz with w, dw = dzᵀ patch(x), db = sum dz
//   dy [B,OH,OW,N], x [B,H,W,C], w [N,KH,KW,C], any strides | saved_activation [B,OH,OW,N]: y, z or null
//   dx, dw, db, each may be null
//   the masks of y and of x are drawn again from their keys: no random bits are stored
// Work      as forward, for each of dx and dw and for any stride: dx is one product per phase, see
//           cpu/conv2d/window.hpp
// Numerics  dx: one chain of fma over the taps and n; dw: one chain of fma over the pixels, chunk by chunk and in a
//           chunk class by class; the same bits for any number of threads
// Limits    any size >= 0; no read past the last element; re-entrant; memory only from cpu/runtime/scratch.hpp
#pragma once

#include "cpu/conv2d/dz.hpp"
#include "cpu/conv2d/product.hpp"
#include "cpu/conv2d/weight_product.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

// dx: each chunk of pixels forms the part of dz that it reads once, as an image; patches of dz are then rows of memory.
template <class S>
struct Conv2dInputGradient {
  using T = acc_t<S>;
  const Conv2dBackwardArgs& args;
  DzPacker<S> dz_packer;
  MaskBits input_mask_bits;
  Phase h, w;  // the current phase of visit_phases; the members below belong to this phase
  Window window;
  ThreadGrid grid;
  Conv2dProduct<T> product;
  i64 stage_at = 0, dz_work_at = 0, sums_at = 0, dx_at = 0, size = 0;
  int threads = 1;
  char* const* memory = nullptr;  // one buffer per thread, and one more for w
  const T* packed = nullptr;  // w for the taps of the phase, as [K,C] in panels

  explicit Conv2dInputGradient(const Conv2dBackwardArgs& a)
      : args(a), dz_packer(a.epilogue, pixels_as_rows<S>(a)), input_mask_bits(a.input_mask) {}

  // Whether products write to dx directly: the phase has all pixels, and x has no mask.
  bool direct() const {
    const Conv2dSizes& s = args.sizes;
    return h.stride == 1 && w.stride == 1 && input_mask_bits.keeps_all() && is_pixel_matrix(args.dx, s.H, s.W, s.C);
  }

  // Allocates memory for the largest phase and reorders the weight by taps, once for all phases.
  void run() {
    const Conv2dSizes& s = args.sizes;
    const i64 taps_room = s.KH * s.KW * s.N * s.C * i64{sizeof(S)};
    i64 thread_bytes = 0, packed_bytes = 0;
    visit_phases([&] {
      thread_bytes = maximum(thread_bytes, size);
      packed_bytes = maximum(packed_bytes, packed_room<T>(window.depth(), s.C));
      threads = grid.threads() > threads ? grid.threads() : threads;
    });
    ScratchLayout shared;
    shared.add(packed_bytes);
    const i64 taps_at = shared.add(taps_room);
    memory = scratch(threads + 1, maximum(thread_bytes, shared.size()));
    S* taps = reinterpret_cast<S*>(memory[threads] + taps_at);
    weight_by_taps(args.w, s, {args.w.batch, s.N}, {args.w.channel, s.C}, taps);
    visit_phases([&] {
      pack_taps(taps, reinterpret_cast<T*>(memory[threads]));
      packed = reinterpret_cast<const T*>(memory[threads]);
      parallel_for(grid.threads(), [&](int thread) { run_thread(thread); });
    });
  }

  // For each phase that has pixels: calls plan(), then visit().
  template <class Visit>
  void visit_phases(Visit visit) {
    const Conv2dSizes& s = args.sizes;
    for (i64 i = 0; i < minimum(s.stride_h, s.H); ++i)
      for (i64 j = 0; j < minimum(s.stride_w, s.W); ++j) {
        h = Phase::of(i, s.H, s.stride_h, s.padding_h, s.KH);
        w = Phase::of(j, s.W, s.stride_w, s.padding_w, s.KW);
        window = gradient_window(s, h, w);
        if (window.pixels() == 0 || s.C == 0) continue;
        plan();
        visit();
      }
  }

  void plan() {
    const Conv2dSizes& s = args.sizes;
    grid = choose_grid({window.pixels(), s.C, window.depth(), 30, 0, 4, kGroup});
    product = Conv2dProduct<T>(window, grid.col_chunk);
    ScratchLayout per_thread;
    per_thread.add(product.size());
    stage_at = per_thread.add(Stage<T>::room(window, product.chunk()) * i64{sizeof(T)});
    dz_work_at = per_thread.add(Conv2dDz<S>::room(s, s.OW));
    sums_at = per_thread.add(product.chunk() * s.C * i64{sizeof(T)});
    dx_at = per_thread.add(direct() ? 0 : product.chunk() * s.C * i64{sizeof(S)});
    size = per_thread.size();
  }

  // Row (t_h*taps_w + t_w)*N + n of B holds the weights of tap (t_h, t_w) of the phase and channel n of dz.
  void pack_taps(const S* taps, T* dst) const {
    constexpr i64 NR = Tiling<T>::NR;
    const i64 N = args.sizes.N, C = args.sizes.C, count = window.taps_h * window.taps_w;
    for (i64 c = 0; c < C; c += NR)
      for (i64 t = 0; t < count; ++t, dst += N * NR) {
        const i64 tap = h.tap_at(t / window.taps_w) * args.sizes.KW + w.tap_at(t % window.taps_w);
        pack_panels<NR>(View<S>(taps + tap * N * C + c, C, 1), N, minimum(NR, C - c), dst);
      }
  }

  void run_thread(int thread) {
    const Range pixels = grid_rows(grid, thread, window.pixels()), cols = grid_cols(grid, thread, args.sizes.C);
    if (cols.size() <= 0) return;
    visit_chunks(window, pixels, product.chunk(), [&](Range chunk) { run_chunk(chunk, cols, memory[thread]); });
  }

  void run_chunk(Range pixels, Range cols, char* thread_memory) {
    const i64 C = args.sizes.C;
    T* sums = reinterpret_cast<T*>(thread_memory + sums_at);
    if (window.depth() == 0)  // the stride is larger than the kernel: no window covers these pixels
      std::memset(sums, 0, static_cast<std::size_t>(pixels.size() * C) * sizeof(T));
    else
      multiply(pixels, cols, thread_memory, sums);
    S* dx = direct() ? static_cast<S*>(args.dx.data) + pixels.begin * C : reinterpret_cast<S*>(thread_memory + dx_at);
    drop(pixels, cols, sums);
    for (i64 m = 0; m < pixels.size(); ++m) copy_row(sums + m * C + cols.begin, cols.size(), dx + m * C + cols.begin);
    if (!direct()) unload(pixels, cols, dx);
  }

  void multiply(Range pixels, Range cols, char* thread_memory, T* sums) {
    const Conv2dSizes& s = args.sizes;
    Conv2dDz<S> dz(args, dz_packer, s.OW, thread_memory + dz_work_at);
    Stage<T> stage(window);
    stage.fill(pixels, reinterpret_cast<T*>(thread_memory + stage_at), [&](i64 b, i64 row, i64 col, i64 n, T* dst) {
      const i64 first = (b * s.OH + row) * s.OW + col;
      dz.prepare({first, first + n});
      dz.form_pixels(first, n, dst);
    });
    product.run(stage, pixels, cols, packed, thread_memory, {sums, s.C});
  }

  void drop(Range pixels, Range cols, T* sums) const {
    const Conv2dSizes& s = args.sizes;
    if (input_mask_bits.keeps_all()) return;
    visit_rows_of_pixels(pixels, h.count, w.count, [&](i64 b, i64 t, i64 u, i64 n, i64 offset) {
      const i64 first = (b * s.H + h.first + h.stride * t) * s.W + w.first + w.stride * u;
      drop_pixels(input_mask_bits, {first, w.stride, n}, cols, sums + offset * s.C, s.C);
    });
  }

  void unload(Range pixels, Range cols, const S* src) const {
    const i64 C = args.sizes.C;
    const OutputImage& dx = args.dx;
    visit_rows_of_pixels(pixels, h.count, w.count, [&](i64 b, i64 t, i64 u, i64 n, i64 offset) {
      const i64 row = h.first + h.stride * t, col = w.first + w.stride * u;
      S* dst = static_cast<S*>(dx.data) + b * dx.batch + row * dx.row + col * dx.col + cols.begin * dx.channel;
      unload_pixels(RowMajor<const S>{src + offset * C + cols.begin, C}, n, cols.size(), dst, w.stride * dx.col,
                    dx.channel);
    });
  }
};

// dw and db: sums over all pixels. dz and x are staged for one chunk of pixels at a time.
template <class S>
struct Conv2dWeightGradient {
  using T = acc_t<S>;
  const Conv2dBackwardArgs& args;
  DzPacker<S> dz_packer;
  MaskBits input_mask_bits;
  Window window;
  ThreadGrid grid;
  Conv2dWeightProduct<T> product;
  i64 stage_at = 0, dz_work_at = 0, dz_at = 0, dz_ld = 0;
  char* const* memory = nullptr;
  S* dw = nullptr;  // [N,K]
  T* db_sums = nullptr;  // [N rounded up to whole strips], shared; each thread adds to its own channels

  explicit Conv2dWeightGradient(const Conv2dBackwardArgs& a)
      : args(a),
        dz_packer(a.epilogue, pixels_as_rows<S>(a)),
        input_mask_bits(a.input_mask),
        window(input_window(a.sizes)) {
    // Without dw, one column of threads remains: it sums db.
    const i64 columns = args.dw.data == nullptr ? 1 : maximum(window.depth(), 1);
    grid = choose_grid({a.sizes.N, columns, window.pixels(), 20, 6, kGroup, kGroup});
    product = Conv2dWeightProduct<T>(window, grid.row_chunk, grid.col_chunk);
    dz_ld = round_up(grid.row_chunk, kGroup);
    allocate();
  }

  void allocate() {
    const i64 max_pixels = minimum(product.chunk(), window.pixels()), N = args.sizes.N;
    ScratchLayout per_thread;
    per_thread.add(product.size());
    stage_at = per_thread.add(Stage<T>::room(window, max_pixels) * i64{sizeof(T)});
    dz_work_at = per_thread.add(Conv2dDz<S>::room(args.sizes, max_pixels));
    dz_at = per_thread.add(max_pixels * dz_ld * i64{sizeof(T)});
    ScratchLayout shared;
    shared.add(N * window.depth() * i64{sizeof(S)});
    const i64 sums_at = shared.add(round_up(N, kGroup) * i64{sizeof(T)});
    memory = scratch(grid.threads() + 1, maximum(per_thread.size(), shared.size()));
    dw = reinterpret_cast<S*>(memory[grid.threads()]);
    db_sums = reinterpret_cast<T*>(memory[grid.threads()] + sums_at);
    for (i64 n = 0; n < round_up(N, kGroup); ++n) db_sums[n] = T(0);
  }

  void run(int thread) {
    char* thread_memory = memory[thread];
    const Range rows = grid_rows(grid, thread, args.sizes.N);
    Range cols = grid_cols(grid, thread, maximum(window.depth(), 1));
    const bool sums_db = cols.begin == 0;
    if (args.dw.data == nullptr) cols = {0, 0};
    cols.end = minimum(cols.end, window.depth());
    if (rows.size() == 0 || (cols.size() <= 0 && !sums_db)) return;
    Conv2dDz<S> conv_dz(args, dz_packer, minimum(product.chunk(), window.pixels()), thread_memory + dz_work_at);
    Stage<T> stage(window);
    T* dz = reinterpret_cast<T*>(thread_memory + dz_at);
    T* db = sums_db ? db_sums + rows.begin : nullptr;
    product.clear(thread_memory);
    visit_chunks(window, {0, window.pixels()}, product.chunk(), [&](Range pixels) {
      conv_dz.prepare(pixels);
      conv_dz.form({pixels.begin, pixels.size(), rows.begin, rows.size()}, dz, dz_ld, db);
      if (cols.size() <= 0) return;
      stage.fill(pixels, reinterpret_cast<T*>(thread_memory + stage_at), input_loader<S>(args, input_mask_bits));
      product.add(stage, pixels, {dz, dz_ld}, rows.size(), cols, thread_memory);
    });
    const i64 K = window.depth();
    if (cols.size() > 0) product.store(rows.size(), cols.size(), thread_memory, dw + rows.begin * K + cols.begin, K);
  }

  void store() const {
    const Conv2dSizes& s = args.sizes;
    const i64 taps = s.KH * s.KW;
    if (args.dw.data != nullptr)
      for (i64 n = 0; n < s.N; ++n) {
        S* dst = static_cast<S*>(args.dw.data) + n * args.dw.batch;
        unload_pixels(RowMajor<const S>{dw + n * window.depth(), s.C}, taps, s.C, dst, args.dw.col, args.dw.channel);
      }
    if (args.db != nullptr) copy_row(db_sums, s.N, static_cast<S*>(args.db));
  }
};

template <class S>
void conv2d_backward_typed(const Conv2dBackwardArgs& args) {
  if (args.dx.data != nullptr) Conv2dInputGradient<S>(args).run();
  if (args.dw.data == nullptr && args.db == nullptr) return;
  Conv2dWeightGradient<S> job(args);
  parallel_for(job.grid.threads(), [&](int thread) { job.run(thread); });
  job.store();
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
