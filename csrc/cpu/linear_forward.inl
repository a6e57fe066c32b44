// linear_forward: y = residual + dropout(act(x wᵀ + b))
//   x [M,K] f32 or f64, any strides | w [N,K] | b [N] or null | residual [M,N] or null | y [M,N] | z [M,N] or null
//   mask = f(seed, stream, step, row0+i, col0+j), core/mask.hpp
//   x may have a mask of its own, applied while it is packed
// Work      2MNK flop; one Philox call for 8 elements of y: docs/performance.md has what that costs
// Tiling    gemm.hpp; the epilogue runs on each register tile while it is in the L1
// Numerics  accumulation in the operands' type, in k order; |err| <= c K eps sum|x||w|; kept NaN and Inf propagate
// Limits    any M, N, K >= 0; no read past the last element; re-entrant; memory from scratch.hpp only
#pragma once

#include "core/args.hpp"
#include "cpu/gemm.hpp"
#include "cpu/scratch.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

// The sink of the forward product: bias, activation, mask, scale, residual and store, tile by tile.
template <class T>
class ForwardSink {
 public:
  using Finish = void (*)(ForwardSink&, i64 i, i64 rows, i64 j, i64 cols, const T* tile);

  ForwardSink(const LinearForwardArgs& args, const Keeper& keeper, Finish finish, u32* words)
      : args_(args),
        keeper_(keeper),
        finish_(finish),
        words_(words),
        scale_(static_cast<T>(keep_scale(args.mask.threshold))) {}

  T* c() { return static_cast<T*>(args_.y); }
  i64 ld() const { return args_.N; }

  void begin_strip(i64 i, i64 rows, i64 j, i64 cols) {
    strip_row_ = i;
    strip_col_ = j;
    keeper_.strip(i, rows, j, words_);
    const T* b = static_cast<const T*>(args_.b);
    for (i64 c = 0; c < kGroup; ++c) bias_[c] = b != nullptr && c < cols ? b[(j + c) * args_.b_stride] : T(0);
  }

  void finish(i64 i, i64 rows, i64 j, i64 cols, const T* tile) { finish_(*this, i, rows, j, cols, tile); }

  template <class Act>
  static void finish_tile(ForwardSink& s, i64 i, i64 rows, i64 j, i64 cols, const T* tile) {
    constexpr int NR = Tiling<T>::NR;
    T row[NR], z_row[NR], residual[NR];
    for (i64 r = 0; r < rows; ++r, tile += NR) {
      const i64 at = (i + r) * s.args_.N + j;
      const bool whole = cols == NR;
      T* y = whole ? s.c() + at : row;
      T* z = s.args_.z == nullptr ? nullptr : whole ? static_cast<T*>(s.args_.z) + at : z_row;
      const T* add = s.residual_row(i + r, j, cols, residual);
      s.template finish_row<Act>(tile, s.words_[i + r - s.strip_row_] >> (j - s.strip_col_), j - s.strip_col_, add, y,
                                 z);
      if (whole) continue;
      copy_row(row, cols, s.c() + at);
      if (z != nullptr) copy_row(z_row, cols, static_cast<T*>(s.args_.z) + at);
    }
  }

 private:
  template <class Act>
  FD_FN void finish_row(const T* tile, u32 word, i64 offset, const T* add, T* y, T* z) const {
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

  const T* residual_row(i64 i, i64 j, i64 cols, T* buffer) const {
    if (args_.residual.data == nullptr) return nullptr;
    const View<T> residual = View<T>(args_.residual).at(i, j);
    if (residual.cs == 1 && cols == Tiling<T>::NR) return residual.p;
    for (i64 c = 0; c < Tiling<T>::NR; ++c) buffer[c] = c < cols ? residual(0, c) : T(0);
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

template <class T>
struct ForwardJob {
  const LinearForwardArgs& args;
  Keeper keeper, input_keeper;
  typename ForwardSink<T>::Finish finish;
  Grid grid;
  char* const* memory;  // a buffer a thread
  i64 b_at, words_at;

  void run(int thread) {
    char* mine = memory[thread];
    u32* words = reinterpret_cast<u32*>(mine + words_at);
    const View<T> x(args.x), w(args.w);
    auto pack_a = [&](i64 i, i64 rows, i64 k, i64 depth, T* dst) {
      pack_rows(x.at(i, k), rows, depth, dst, Tiling<T>::LDA);
      drop_rows(input_keeper, i, rows, k, depth, dst, Tiling<T>::LDA, words);
    };
    auto pack_b = [&](i64 k, i64 depth, i64 j, i64 cols, T* dst) {
      pack_panels<T, Tiling<T>::NR>(w.transposed().at(k, j), depth, cols, dst);
    };
    ForwardSink<T> sink(args, keeper, finish, words);
    gemm_rectangle<Order::by_rows>(grid_rows(grid, thread, args.M), grid_cols(grid, thread, args.N), args.K, pack_a,
                                   pack_b, sink, reinterpret_cast<T*>(mine), reinterpret_cast<T*>(mine + b_at));
  }
};

template <class T>
void linear_forward_typed(const LinearForwardArgs& args) {
  const auto finish = with_activation(args.activation, [](auto act) -> typename ForwardSink<T>::Finish {
    return &ForwardSink<T>::template finish_tile<decltype(act)>;
  });
  // Packing an element of x costs about 4 multiply-adds, one of w (transposed) about 9.
  const Grid grid = choose_grid({args.M, args.N, args.K, 4, 9, Tiling<T>::MR, kGroup});
  ScratchLayout layout;
  layout.add(a_block_elements<T>(Order::by_rows) * static_cast<i64>(sizeof(T)));
  const i64 b_at = layout.add(b_block_elements<T>(grid.col_chunk, args.K) * static_cast<i64>(sizeof(T)));
  const i64 words_at = layout.add(keep_room(Tiling<T>::MC) * static_cast<i64>(sizeof(u32)));
  char* const* memory = scratch(grid.threads(), layout.size());
  ForwardJob<T> job{args, Keeper(args.mask), Keeper(args.input_mask), finish, grid, memory, b_at, words_at};
  run_threads(grid.threads(), [](int thread, void* p) { static_cast<ForwardJob<T>*>(p)->run(thread); }, &job);
}

void linear_forward(const LinearForwardArgs& args) {
  args.dtype == Dtype::float32 ? linear_forward_typed<float>(args) : linear_forward_typed<double>(args);
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
