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
  Phase h, w;  // set by run_phase
  Window window;
  Grid grid;
  ConvProduct<T> product;
  i64 stage_at = 0, gradient_at = 0, sums_at = 0, dx_at = 0;
  char* const* memory = nullptr;  // a buffer a thread, and one more for w
  const T* packed = nullptr;  // w of the phase's taps as [K,C], in panels

  explicit Conv2dInputGradient(const Conv2dBackwardArgs& a)
      : args(a), rows_args(pixels_as_rows(a)), gradient(rows_args), input_keeper(a.input_mask) {}

  // Written in place where the pixels of a phase are all pixels, and no mask of x lies over them.
  bool direct() const {
    const Conv2dSizes& s = args.sizes;
    return h.step == 1 && w.step == 1 && input_keeper.keeps_all() && is_pixel_matrix(args.dx, s.H, s.W, s.C);
  }

  void run_phase(const Phase& rows, const Phase& cols) {
    h = rows, w = cols;
    window = gradient_window(args.sizes, h, w);
    if (window.pixels() == 0 || args.sizes.C == 0) return;
    grid = choose_grid({window.pixels(), args.sizes.C, window.depth(), 30, 0, 4, kGroup});
    product = ConvProduct<T>(window, grid.col_chunk);
    allocate();
    run_threads(grid.threads(), [](int thread, void* p) { static_cast<Conv2dInputGradient*>(p)->run(thread); }, this);
  }

  void allocate() {
    const Conv2dSizes& s = args.sizes;
    ScratchLayout mine;
    mine.add(product.size());
    stage_at = mine.add(Stage<T>::room(window, product.chunk()) * i64{sizeof(T)});
    gradient_at = mine.add(ConvGradient<S>::room(s, s.OW));
    sums_at = mine.add(product.chunk() * s.C * i64{sizeof(T)});
    dx_at = mine.add(direct() ? 0 : product.chunk() * s.C * i64{sizeof(S)});
    ScratchLayout shared;
    shared.add(packed_room<T>(window.depth(), s.C));
    const i64 taps_at = shared.add(s.KH * s.KW * s.N * s.C * i64{sizeof(S)});
    memory = scratch(grid.threads() + 1, maximum(mine.size(), shared.size()));
    char* weights = memory[grid.threads()];
    S* taps = reinterpret_cast<S*>(weights + taps_at);
    weight_by_taps(args.w, s.KH, s.KW, args.w.batch, s.N, args.w.channel, s.C, taps);
    pack_taps(taps, reinterpret_cast<T*>(weights));
    packed = reinterpret_cast<const T*>(weights);
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

  void run(int thread) {
    const Range pixels = grid_rows(grid, thread, window.pixels()), cols = grid_cols(grid, thread, args.sizes.C);
    for (i64 m = pixels.begin; m < pixels.end && cols.size() > 0; m += product.chunk())
      run_chunk({m, minimum(m + product.chunk(), pixels.end)}, cols, memory[thread]);
  }

  void run_chunk(Range pixels, Range cols, char* mine) {
    const Conv2dSizes& s = args.sizes;
    ConvGradient<S> dz(args, gradient, s.OW, mine + gradient_at);
    Stage<T> stage(window);
    stage.fill(pixels, reinterpret_cast<T*>(mine + stage_at), [&](i64 b, i64 row, i64 col, i64 n, T* dst) {
      const i64 first = (b * s.OH + row) * s.OW + col;
      dz.prepare({first, first + n});
      dz.form_pixels(first, n, dst);
    });
    T* sums = reinterpret_cast<T*>(mine + sums_at);
    product.run(stage, pixels, cols, packed, mine, sums, s.C);
    S* dx = direct() ? static_cast<S*>(args.dx.data) + pixels.begin * s.C : reinterpret_cast<S*>(mine + dx_at);
    for (i64 m = 0; m < pixels.size(); ++m)
      copy_row(sums + m * s.C + cols.begin, cols.size(), dx + m * s.C + cols.begin);
    if (!direct()) unload(pixels, cols, dx);
  }

  void unload(Range pixels, Range cols, S* src) const {
    const Conv2dSizes& s = args.sizes;
    const OutputImage& dx = args.dx;
    visit_rows_of_pixels(pixels, h.count, w.count, [&](i64 b, i64 t, i64 u, i64 n, i64 offset) {
      const i64 row = h.first + h.step * t, col = w.first + w.step * u;
      drop_pixels(input_keeper, (b * s.H + row) * s.W + col, w.step, n, s.C, src + offset * s.C);
      S* dst = static_cast<S*>(dx.data) + b * dx.batch + row * dx.row + col * dx.col + cols.begin * dx.channel;
      unload_pixels(src + offset * s.C + cols.begin, s.C, n, cols.size(), dst, w.step * dx.col, dx.channel);
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
    product.clear(mine);
    for (i64 m = 0; m < window.pixels(); m += product.chunk()) {
      const Range pixels{m, minimum(m + product.chunk(), window.pixels())};
      gradients.prepare(pixels);
      gradients.form(m, pixels.size(), rows.begin, rows.size(), dz, dz_ld, sums_db ? db_sums + rows.begin : nullptr);
      if (cols.size() <= 0) continue;
      stage.fill(pixels, reinterpret_cast<T*>(mine + stage_at), input_loader<S>(args, input_keeper));
      product.add(stage, pixels, dz, dz_ld, rows.size(), cols, mine);
    }
    const i64 K = window.depth();
    if (cols.size() > 0) product.store(rows.size(), cols.size(), mine, dw + rows.begin * K + cols.begin, K);
  }

  void store() const {
    const Conv2dSizes& s = args.sizes;
    const i64 taps = s.KH * s.KW;
    for (i64 n = 0; args.dw.data != nullptr && n < s.N; ++n) {
      S* dst = static_cast<S*>(args.dw.data) + n * args.dw.batch;
      unload_pixels(dw + n * window.depth(), s.C, taps, s.C, dst, args.dw.col, args.dw.channel);
    }
    if (args.db != nullptr) copy_row(db_sums, s.N, static_cast<S*>(args.db));
  }
};

template <class S>
void conv2d_backward_typed(const Conv2dBackwardArgs& args) {
  const Conv2dSizes& s = args.sizes;
  if (args.dx.data != nullptr) {
    Conv2dInputGradient<S> job(args);
    for (i64 h = 0; h < s.stride_h; ++h)
      for (i64 w = 0; w < s.stride_w; ++w)
        job.run_phase(Phase::of(h, s.H, s.stride_h, s.padding_h, s.KH),
                      Phase::of(w, s.W, s.stride_w, s.padding_w, s.KW));
  }
  if (args.dw.data == nullptr && args.db == nullptr) return;
  Conv2dWeightGradient<S> job(args);
  run_threads(
      job.grid.threads(), [](int thread, void* p) { static_cast<Conv2dWeightGradient<S>*>(p)->run(thread); }, &job);
  job.store();
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
