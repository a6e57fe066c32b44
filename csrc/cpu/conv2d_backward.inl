// conv2d_backward: dz = dy * mask * act', dx = the transposed convolution of dz with w, dw = dzᵀ patch(x), db = sum dz
//   dy [B,OH,OW,N], x [B,H,W,C], w [N,KH,KW,C], any strides | kept [B,OH,OW,N]: y, z or nothing | dx, dw, db, each or null
//   the masks of y and of x are drawn again from their names: nothing random is stored
// Work      as forward, for each of dx and dw, whatever the stride: dx takes one product for each phase (conv_window.hpp)
// Numerics  dx: one chain of fma over the taps and n; dw: over the pixels in order; the same bits for any threads
// Limits    any size >= 0; no read past the last element; re-entrant; memory from scratch.hpp only
#pragma once

#include "cpu/buffers.hpp"
#include "cpu/conv_gradient.hpp"
#include "cpu/store_sink.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

// dx: an image of dz is formed once for each chunk of pixels, its patches are rows of memory.
template <class S>
struct Conv2dInputGradient {
  using T = sum_of<S>;
  static constexpr i64 kChunk = 4 * Tiling<T>::MC;
  const Conv2dBackwardArgs& args;
  LinearBackwardArgs rows_args;
  GradientPacker<S> gradient;
  Keeper input_keeper;
  Phase h, w;  // set by run_phase
  Window window;
  Grid grid;
  BufferLayout<S> layout;
  i64 stage_at = 0, gradient_at = 0, dx_at = 0;
  char* const* memory = nullptr;
  S* taps = nullptr;  // w as [KH*KW*N, C]
  const Axis every;

  explicit Conv2dInputGradient(const Conv2dBackwardArgs& a)
      : args(a), rows_args(pixels_as_rows(a)), gradient(rows_args), input_keeper(a.input_mask) {}

  // Written in place where the pixels of a phase are all pixels, and no mask of x lies over them.
  bool direct() const {
    const Conv2dSizes& s = args.sizes;
    return h.step == 1 && w.step == 1 && input_keeper.keeps_all() && is_pixel_matrix(args.dx, s.H, s.W, s.C);
  }

  void run_phase(const Phase& rows, const Phase& cols) {
    const Conv2dSizes& s = args.sizes;
    h = rows, w = cols;
    window = gradient_window(s, h, w);
    if (window.pixels() == 0 || s.C == 0) return;
    grid = choose_grid({window.pixels(), s.C, window.depth(), 30, 4, 4, kGroup});
    layout = BufferLayout<S>(Order::by_rows, grid.col_chunk, window.depth(), false);
    allocate();
    weight_by_taps(args.w, s.KH, s.KW, args.w.batch, s.N, args.w.channel, s.C, taps);
    run_threads(grid.threads(), [](int thread, void* p) { static_cast<Conv2dInputGradient*>(p)->run(thread); }, this);
  }

  void allocate() {
    const Conv2dSizes& s = args.sizes;
    ScratchLayout extra;
    extra.add(layout.size());
    const i64 chunk = minimum(kChunk, window.pixels());
    stage_at = extra.add(Stage<T>::room(window, chunk) * i64{sizeof(T)});
    gradient_at = extra.add(ConvGradient<S>::room(s, s.OW));
    dx_at = extra.add(direct() ? 0 : chunk * s.C * i64{sizeof(S)});
    memory = scratch(grid.threads() + 1, maximum(extra.size(), s.KH * s.KW * s.N * s.C * i64{sizeof(S)}));
    taps = reinterpret_cast<S*>(memory[grid.threads()]);
  }

  void run(int thread) {
    const Range pixels = grid_rows(grid, thread, window.pixels()), cols = grid_cols(grid, thread, args.sizes.C);
    for (i64 m = pixels.begin; m < pixels.end && cols.size() > 0; m += kChunk)
      run_chunk({m, minimum(m + kChunk, pixels.end)}, cols, memory[thread]);
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
    auto pack_a = [&](i64 i, i64 rows, i64 k, i64 depth, T* dst, bool) {
      pack_patch_rows(stage, {pixels.begin + i, pixels.begin + i + rows}, k, depth, dst);
    };
    auto pack_b = [&](i64 k, i64 depth, i64 j, i64 width, T* dst) { pack_taps(k, depth, j, width, dst); };
    S* dx = direct() ? static_cast<S*>(args.dx.data) + pixels.begin * s.C : reinterpret_cast<S*>(mine + dx_at);
    StoreSink<S> sink(dx, s.C, every, every, T(1), nullptr, nullptr);
    gemm_rectangle<Order::by_rows, S>({0, pixels.size()}, cols, pack_a, pack_b, sink, layout.buffers(mine));
    if (!direct()) unload(pixels, cols, dx);
  }

  // A strip of B, whose row (t_h*taps_w + t_w)*N + n is the weight of the phase's tap (t_h, t_w) for channel n of dz.
  void pack_taps(i64 k, i64 depth, i64 j, i64 width, T* dst) const {
    constexpr i64 NR = Tiling<T>::NR;
    const i64 N = args.sizes.N, C = args.sizes.C;
    for (i64 c = 0; c < width; c += NR, dst += depth * NR)
      for (i64 i = 0; i < depth;) {
        const i64 tap = (k + i) / N, n = (k + i) % N, count = minimum(N - n, depth - i);
        const i64 kh = h.tap_at(tap / w.taps), kw = w.tap_at(tap % w.taps);
        const View<S> rows(taps + ((kh * args.sizes.KW + kw) * N + n) * C + j + c, C, 1);
        pack_panels<NR>(rows, count, minimum(NR, width - c), dst + i * NR);
        i += count;
      }
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

// dw and db: K is the pixels, in order; dz and x are staged for a block of them at a time.
template <class S>
struct Conv2dWeightGradient {
  using T = sum_of<S>;
  const Conv2dBackwardArgs& args;
  LinearBackwardArgs rows_args;
  GradientPacker<S> gradient;
  Keeper input_keeper;
  Window window;
  Grid grid;
  BufferLayout<S> layout;
  i64 stage_at = 0, gradient_at = 0;
  char* const* memory = nullptr;
  S* dw = nullptr;  // [N,K]
  T* db_sums = nullptr;  // [N rounded up to whole strips], shared: each thread adds to its own channels
  const Axis every;

  explicit Conv2dWeightGradient(const Conv2dBackwardArgs& a)
      : args(a),
        rows_args(pixels_as_rows(a)),
        gradient(rows_args),
        input_keeper(a.input_mask),
        window(input_window(a.sizes)) {
    grid =
        choose_grid({a.sizes.N, args.dw.data == nullptr ? 1 : window.depth(), window.pixels(), 20, 6, kGroup, kGroup});
    layout = BufferLayout<S>(Order::by_cols, grid.col_chunk, window.pixels(), false);
    allocate();
  }

  void allocate() {
    const i64 most = minimum(Tiling<T>::KC, window.pixels()), N = args.sizes.N;
    ScratchLayout extra;
    extra.add(layout.size());
    stage_at = extra.add(Stage<T>::room(window, most) * i64{sizeof(T)});
    gradient_at = extra.add(ConvGradient<S>::room(args.sizes, most));
    ScratchLayout shared;
    shared.add(N * window.depth() * i64{sizeof(S)});
    const i64 sums_at = shared.add(round_up(N, kGroup) * i64{sizeof(T)});
    memory = scratch(grid.threads() + 1, maximum(extra.size(), shared.size()));
    dw = reinterpret_cast<S*>(memory[grid.threads()]);
    db_sums = reinterpret_cast<T*>(memory[grid.threads()] + sums_at);
    for (i64 n = 0; n < round_up(N, kGroup); ++n) db_sums[n] = T(0);
  }

  void run(int thread) {
    char* mine = memory[thread];
    const Range rows = grid_rows(grid, thread, args.sizes.N), cols = grid_cols(grid, thread, window.depth());
    ConvGradient<S> dz(args, gradient, minimum(Tiling<T>::KC, window.pixels()), mine + gradient_at);
    i64 prepared = -1, staged = -1;
    auto pack_a = [&](i64 n, i64 channels, i64 m, i64 depth, T* dst, bool first) {
      if (prepared != m) dz.prepare({m, m + depth});
      prepared = m;
      dz.form(m, depth, n, channels, dst, Tiling<T>::MC, first && cols.begin == 0 ? db_sums + n : nullptr);
    };
    Stage<T> stage(window);
    auto pack_b = [&](i64 m, i64 depth, i64 j, i64 width, T* dst) {
      if (staged != m) stage.fill({m, m + depth}, reinterpret_cast<T*>(mine + stage_at), input_loader());
      staged = m;
      pack_patch_panels(stage, {m, m + depth}, j, width, dst);
    };
    if (args.dw.data == nullptr || cols.size() == 0) {
      for (i64 m = 0; m < window.pixels() && cols.begin == 0; m += layout.buffers(mine).blocking.depth)
        for (i64 n = rows.begin; n < rows.end; n += Tiling<T>::MC)
          pack_a(n, minimum(Tiling<T>::MC, rows.end - n), m,
                 minimum(layout.buffers(mine).blocking.depth, window.pixels() - m), layout.buffers(mine).a, true);
      return;
    }
    StoreSink<S> sink(dw, window.depth(), every, every, T(1), nullptr, nullptr);
    gemm_rectangle<Order::by_cols, S>(rows, cols, pack_a, pack_b, sink, layout.buffers(mine));
  }

  auto input_loader() const {
    return [this](i64 b, i64 h, i64 col, i64 n, T* dst) {
      const Conv2dSizes& s = args.sizes;
      load_pixels(pixel_row<S>(args.x, b, h, col), n, s.C, dst);
      drop_pixels(input_keeper, (b * s.H + h) * s.W + col, 1, n, s.C, dst);
    };
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
