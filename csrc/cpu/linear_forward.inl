// linear_forward: y = residual + dropout(act(x wᵀ + b))
//   x [M,K] f32, f64 or bf16, any strides | w [N,K] | b [N] or null | residual [M,N] or null | y [M,N] | z [M,N] or null
//   mask = f(seed, stream, step, row0+i, col0+j), core/mask.hpp
//   x may have a mask of its own, applied while it is packed
// Work      2MNK flop; one Philox call for 8 elements of y: docs/performance.md has what that costs
// Tiling    gemm.hpp; the epilogue runs on each register tile while it is in the L1
// Numerics  accumulation in the operands' type (bf16: f32), in k order; |err| <= c K eps sum|x||w|; kept NaN and Inf propagate
// Limits    any M, N, K >= 0; no read past the last element; re-entrant; memory from scratch.hpp only
#pragma once

#include "core/args.hpp"
#include "cpu/buffers.hpp"
#include "cpu/gemm.hpp"
#if FD_BF16_DOT
#include "cpu/pack_pairs.hpp"
#endif

namespace fusedrop::cpu::FD_ISA {
namespace {

// The sink of the forward product: bias, activation, mask, scale, residual and store, tile by tile.
template <class S>
class ForwardSink {
 public:
  using T = sum_of<S>;
  using Finish = void (*)(ForwardSink&, i64 i, i64 rows, i64 j, i64 cols, const T* tile);

  ForwardSink(const LinearForwardArgs& args, const Keeper& keeper, Finish finish, u32* words)
      : args_(args),
        keeper_(keeper),
        finish_(finish),
        words_(words),
        scale_(static_cast<T>(keep_scale(args.mask.threshold))) {}

  S* c() { return static_cast<S*>(args_.y); }
  i64 ld() const { return args_.N; }

  void begin_strip(i64 i, i64 rows, i64 j, i64 cols) {
    strip_row_ = i;
    strip_col_ = j;
    keeper_.strip(i, rows, j, words_);
    const S* b = static_cast<const S*>(args_.b);
    for (i64 c = 0; c < kGroup; ++c) bias_[c] = b != nullptr && c < cols ? widen(b[(j + c) * args_.b_stride]) : T(0);
  }

  void finish(i64 i, i64 rows, i64 j, i64 cols, const T* tile) { finish_(*this, i, rows, j, cols, tile); }

  template <class Act>
  static void finish_tile(ForwardSink& s, i64 i, i64 rows, i64 j, i64 cols, const T* tile) {
    constexpr int NR = Tiling<T>::NR;
    S row[NR], z_row[NR], residual[NR];
    for (i64 r = 0; r < rows; ++r, tile += NR) {
      const i64 at = (i + r) * s.args_.N + j;
      const bool whole = cols == NR;
      S* y = whole ? s.c() + at : row;
      S* z = s.args_.z == nullptr ? nullptr : whole ? static_cast<S*>(s.args_.z) + at : z_row;
      const S* add = s.residual_row(i + r, j, cols, residual);
      s.template finish_row<Act>(tile, s.words_[i + r - s.strip_row_] >> (j - s.strip_col_), j - s.strip_col_, add, y,
                                 z);
      if (whole) continue;
      copy_row(row, cols, s.c() + at);
      if (z != nullptr) copy_row(z_row, cols, static_cast<S*>(s.args_.z) + at);
    }
  }

 private:
  template <class Act>
  FD_FN void finish_row(const T* tile, u32 word, i64 offset, const S* add, S* y, S* z) const {
    using V = Vec<T>;
    const V scale(scale_);
#pragma GCC unroll 4
    for (int c = 0; c < Tiling<T>::NR; c += V::W) {
      const V sum = V::load(tile + c) + V::load(bias_ + offset + c);
      if (z != nullptr) sum.store(z + c);
      V result = Epilogue<Act>::forward(sum, V::lanes(word >> c), scale, args_.before);
      if (add != nullptr) result = V::load(add + c) + result;
      result.store(y + c);
    }
  }

  const S* residual_row(i64 i, i64 j, i64 cols, S* buffer) const {
    if (args_.residual.data == nullptr) return nullptr;
    const View<S> residual = View<S>(args_.residual).at(i, j);
    if (residual.cs == 1 && cols == Tiling<T>::NR) return residual.p;
    for (i64 c = 0; c < Tiling<T>::NR; ++c) buffer[c] = c < cols ? residual(0, c) : S{};
    return buffer;
  }

  const LinearForwardArgs& args_;
  const Keeper& keeper_;
  Finish finish_;
  u32* words_;
  T scale_;
  i64 strip_row_ = 0, strip_col_ = 0;
  alignas(64) T bias_[kGroup];
};

template <class S>
struct ForwardJob {
  using T = sum_of<S>;
  const LinearForwardArgs& args;
  Keeper keeper, input_keeper;
  typename ForwardSink<S>::Finish finish;
  Grid grid;
  char* const* memory;  // a buffer a thread
  BufferLayout<S> layout;

  void run(int thread) {
    u32* words = layout.words(memory[thread]);
    const View<S> x(args.x), w(args.w);
    auto pack_a = [&](i64 i, i64 rows, i64 step, i64 depth, T* dst, bool) {
      const Range k = elements<S>(step, depth, args.K);
      Packer<S>::rows(x.at(i, k.begin), rows, k.size(), dst);
      Packer<S>::drop_rows(input_keeper, i, rows, k.begin, k.size(), dst, words);
    };
    auto pack_b = [&](i64 step, i64 depth, i64 j, i64 cols, T* dst) {
      const Range k = elements<S>(step, depth, args.K);
      Packer<S>::panels(w.transposed().at(k.begin, j), k.size(), cols, dst);
    };
    ForwardSink<S> sink(args, keeper, finish, words);
    gemm_rectangle<Order::by_rows, S>(grid_rows(grid, thread, args.M), grid_cols(grid, thread, args.N), args.K, pack_a,
                                      pack_b, sink, layout.buffers(memory[thread]));
  }
};

template <class S>
void linear_forward_typed(const LinearForwardArgs& args) {
  const auto finish = with_activation(args.activation, [](auto act) -> typename ForwardSink<S>::Finish {
    return &ForwardSink<S>::template finish_tile<decltype(act)>;
  });
  // In multiply-adds an element: packing w, transposed, costs about 9. A copy of x costs 4; that two threads then read the
  // same x and write the same rows of y costs more, so that 30 picks the faster grid.
  const Grid grid = choose_grid({args.M, args.N, args.K, 30, 9, 4, kGroup});
  const BufferLayout<S> layout(Order::by_rows, grid.col_chunk, args.K);
  ForwardJob<S> job{args, Keeper(args.mask), Keeper(args.input_mask), finish, grid, nullptr, layout};
  job.memory = scratch(grid.threads(), layout.size());
  run_threads(grid.threads(), [](int thread, void* p) { static_cast<ForwardJob<S>*>(p)->run(thread); }, &job);
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
