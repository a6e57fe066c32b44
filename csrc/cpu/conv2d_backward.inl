// conv2d_backward: dz = dy * mask * act', dx = the transposed convolution of dz with w, dw = dzᵀ patch(x), db = sum dz
//   dy [B,OH,OW,N], x [B,H,W,C], w [N,KH,KW,C], any strides | kept [B,OH,OW,N]: y, z or nothing | dx, dw, db, each or null
//   the masks of y and of x are drawn again from their names: nothing random is stored
// Work      as forward, for each of dx and dw, whatever the stride: dx takes one product for each phase (conv_window.hpp)
// Numerics  dx: one chain of fma over the taps and n; dw: over the pixels of a chunk, class by class; the same bits for any threads
// Limits    any size >= 0; no read past the last element; re-entrant; memory from scratch.hpp only
#pragma once

#include "cpu/conv_gradient.hpp"
#include "cpu/conv_product.hpp"
#include "cpu/conv_weight_product.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

// dx: an image of dz is formed once for each chunk of pixels, its patches are rows of memory.
template <class S>
struct Conv2dInputGradient {
  using T = sum_of<S>;
  const Conv2dBackwardArgs& args;
  LinearBackwardArgs rows_args;
  GradientPacker<S> gradient;
  Keeper input_keeper;
  Phase h, w;  // of the phase that visit_phases has come to, as all the rest
  Window window;
  Grid grid;
  ConvProduct<T> product;
  i64 stage_at = 0, gradient_at = 0, sums_at = 0, dx_at = 0, size = 0;
  int threads = 1;
  char* const* memory = nullptr;  // a buffer a thread, and one more for w
  const T* packed = nullptr;  // w of the phase's taps as [K,C], in panels

  explicit Conv2dInputGradient(const Conv2dBackwardArgs& a)
      : args(a), rows_args(pixels_as_rows(a)), gradient(rows_args), input_keeper(a.input_mask) {}

  // Written in place where the pixels of a phase are all pixels, and no mask of x lies over them.
  bool direct() const {
    const Conv2dSizes& s = args.sizes;
    return h.step == 1 && w.step == 1 && input_keeper.keeps_all() && is_pixel_matrix(args.dx, s.H, s.W, s.C);
  }

  // Memory for the largest phase, and the weight by taps, are made once.
  void run() {
    const Conv2dSizes& s = args.sizes;
    const i64 taps_room = s.KH * s.KW * s.N * s.C * i64{sizeof(S)};
    i64 mine = 0, packed_bytes = 0;
    visit_phases([&] {
      mine = maximum(mine, size);
      packed_bytes = maximum(packed_bytes, packed_room<T>(window.depth(), s.C));
      threads = grid.threads() > threads ? grid.threads() : threads;
    });
    ScratchLayout shared;
    shared.add(packed_bytes);
    const i64 taps_at = shared.add(taps_room);
    memory = scratch(threads + 1, maximum(mine, shared.size()));
    S* taps = reinterpret_cast<S*>(memory[threads] + taps_at);
    weight_by_taps(args.w, s.KH, s.KW, args.w.batch, s.N, args.w.channel, s.C, taps);
    visit_phases([&] {
      pack_taps(taps, reinterpret_cast<T*>(memory[threads]));
      packed = reinterpret_cast<const T*>(memory[threads]);
      run_threads(
          grid.threads(), [](int thread, void* p) { static_cast<Conv2dInputGradient*>(p)->run_thread(thread); }, this);
    });
  }

  // Plans each phase that has pixels, then calls visit().
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
    product = ConvProduct<T>(window, grid.col_chunk);
    ScratchLayout mine;
    mine.add(product.size());
    stage_at = mine.add(Stage<T>::room(window, product.chunk()) * i64{sizeof(T)});
    gradient_at = mine.add(ConvGradient<S>::room(s, s.OW));
    sums_at = mine.add(product.chunk() * s.C * i64{sizeof(T)});
    dx_at = mine.add(direct() ? 0 : product.chunk() * s.C * i64{sizeof(S)});
    size = mine.size();
  }

  // Row (t_h*taps_w + t_w)*N + n of B is the weight of the phase's tap (t_h, t_w) for channel n of dz.
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

  void run_chunk(Range pixels, Range cols, char* mine) {
    const i64 C = args.sizes.C;
    T* sums = reinterpret_cast<T*>(mine + sums_at);
    if (window.depth() == 0)  // a stride beyond the kernel leaves these pixels out
      std::memset(sums, 0, static_cast<std::size_t>(pixels.size() * C) * sizeof(T));
    else
      multiply(pixels, cols, mine, sums);
    S* dx = direct() ? static_cast<S*>(args.dx.data) + pixels.begin * C : reinterpret_cast<S*>(mine + dx_at);
    drop(pixels, cols, sums);
    for (i64 m = 0; m < pixels.size(); ++m) copy_row(sums + m * C + cols.begin, cols.size(), dx + m * C + cols.begin);
    if (!direct()) unload(pixels, cols, dx);
  }

  void multiply(Range pixels, Range cols, char* mine, T* sums) {
    const Conv2dSizes& s = args.sizes;
    ConvGradient<S> dz(args, gradient, s.OW, mine + gradient_at);
    Stage<T> stage(window);
    stage.fill(pixels, reinterpret_cast<T*>(mine + stage_at), [&](i64 b, i64 row, i64 col, i64 n, T* dst) {
      const i64 first = (b * s.OH + row) * s.OW + col;
      dz.prepare({first, first + n});
      dz.form_pixels(first, n, dst);
    });
    product.run(stage, pixels, cols, packed, mine, sums, s.C);
  }

  void drop(Range pixels, Range cols, T* sums) const {
    const Conv2dSizes& s = args.sizes;
    if (input_keeper.keeps_all()) return;
    visit_rows_of_pixels(pixels, h.count, w.count, [&](i64 b, i64 t, i64 u, i64 n, i64 offset) {
      const i64 first = (b * s.H + h.first + h.step * t) * s.W + w.first + w.step * u;
      drop_pixels(input_keeper, first, w.step, n, cols, sums + offset * s.C, s.C);
    });
  }

  void unload(Range pixels, Range cols, const S* src) const {
    const i64 C = args.sizes.C;
    const OutputImage& dx = args.dx;
    visit_rows_of_pixels(pixels, h.count, w.count, [&](i64 b, i64 t, i64 u, i64 n, i64 offset) {
      const i64 row = h.first + h.step * t, col = w.first + w.step * u;
      S* dst = static_cast<S*>(dx.data) + b * dx.batch + row * dx.row + col * dx.col + cols.begin * dx.channel;
      unload_pixels(src + offset * C + cols.begin, C, n, cols.size(), dst, w.step * dx.col, dx.channel);
    });
  }
};

// dw and db: K is the pixels; dz and x are staged for a chunk of them at a time.
template <class S>
struct Conv2dWeightGradient {
  using T = sum_of<S>;
  const Conv2dBackwardArgs& args;
  LinearBackwardArgs rows_args;
  GradientPacker<S> gradient;
  Keeper input_keeper;
  Window window;
  Grid grid;
  ConvWeightProduct<T> product;
  i64 stage_at = 0, gradient_at = 0, dz_at = 0, dz_ld = 0;
  char* const* memory = nullptr;
  S* dw = nullptr;  // [N,K]
  T* db_sums = nullptr;  // [N rounded up to whole strips], shared: each thread adds to its own channels

  explicit Conv2dWeightGradient(const Conv2dBackwardArgs& a)
      : args(a),
        rows_args(pixels_as_rows(a)),
        gradient(rows_args),
        input_keeper(a.input_mask),
        window(input_window(a.sizes)) {
    const i64 columns = args.dw.data == nullptr ? 1 : maximum(window.depth(), 1);  // db asks for one round, too
    grid = choose_grid({a.sizes.N, columns, window.pixels(), 20, 6, kGroup, kGroup});
    product = ConvWeightProduct<T>(window, grid.row_chunk, grid.col_chunk);
    dz_ld = round_up(grid.row_chunk, kGroup);
    allocate();
  }

  void allocate() {
    const i64 most = minimum(product.chunk(), window.pixels()), N = args.sizes.N;
    ScratchLayout mine;
    mine.add(product.size());
    stage_at = mine.add(Stage<T>::room(window, most) * i64{sizeof(T)});
    gradient_at = mine.add(ConvGradient<S>::room(args.sizes, most));
    dz_at = mine.add(most * dz_ld * i64{sizeof(T)});
    ScratchLayout shared;
    shared.add(N * window.depth() * i64{sizeof(S)});
    const i64 sums_at = shared.add(round_up(N, kGroup) * i64{sizeof(T)});
    memory = scratch(grid.threads() + 1, maximum(mine.size(), shared.size()));
    dw = reinterpret_cast<S*>(memory[grid.threads()]);
    db_sums = reinterpret_cast<T*>(memory[grid.threads()] + sums_at);
    for (i64 n = 0; n < round_up(N, kGroup); ++n) db_sums[n] = T(0);
  }

  void run(int thread) {
    char* mine = memory[thread];
    const Range rows = grid_rows(grid, thread, args.sizes.N);
    Range cols = grid_cols(grid, thread, maximum(window.depth(), 1));
    const bool sums_db = cols.begin == 0;
    if (args.dw.data == nullptr) cols = {0, 0};
    cols.end = minimum(cols.end, window.depth());
    if (rows.size() == 0 || (cols.size() <= 0 && !sums_db)) return;
    ConvGradient<S> gradients(args, gradient, minimum(product.chunk(), window.pixels()), mine + gradient_at);
    Stage<T> stage(window);
    T* dz = reinterpret_cast<T*>(mine + dz_at);
    T* db = sums_db ? db_sums + rows.begin : nullptr;
    product.clear(mine);
    visit_chunks(window, {0, window.pixels()}, product.chunk(), [&](Range pixels) {
      gradients.prepare(pixels);
      gradients.form(pixels.begin, pixels.size(), rows.begin, rows.size(), dz, dz_ld, db);
      if (cols.size() <= 0) return;
      stage.fill(pixels, reinterpret_cast<T*>(mine + stage_at), input_loader<S>(args, input_keeper));
      product.add(stage, pixels, dz, dz_ld, rows.size(), cols, mine);
    });
    const i64 K = window.depth();
    if (cols.size() > 0) product.store(rows.size(), cols.size(), mine, dw + rows.begin * K + cols.begin, K);
  }

  void store() const {
    const Conv2dSizes& s = args.sizes;
    const i64 taps = s.KH * s.KW;
    if (args.dw.data != nullptr)
      for (i64 n = 0; n < s.N; ++n) {
        S* dst = static_cast<S*>(args.dw.data) + n * args.dw.batch;
        unload_pixels(dw + n * window.depth(), s.C, taps, s.C, dst, args.dw.col, args.dw.channel);
      }
    if (args.db != nullptr) copy_row(db_sums, s.N, static_cast<S*>(args.db));
  }
};

template <class S>
void conv2d_backward_typed(const Conv2dBackwardArgs& args) {
  if (args.dx.data != nullptr) Conv2dInputGradient<S>(args).run();
  if (args.dw.data == nullptr && args.db == nullptr) return;
  Conv2dWeightGradient<S> job(args);
  run_threads(
      job.grid.threads(), [](int thread, void* p) { static_cast<Conv2dWeightGradient<S>*>(p)->run(thread); }, &job);
  job.store();
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
