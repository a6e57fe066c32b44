// linear_forward: y = residual + dropout(act(x wᵀ + b))
//   x [M,K] f32, f64 or bf16, any strides | w [N,K] | b [N] or null | residual [M,N] or null | y [M,N] | z [M,N] or null
//   mask = f(seed, stream, step, row0+i, col0+j), core/mask.hpp
//   x may have a mask of its own, applied while it is packed
//   unit dropout: columns of y, or of x, that are not kept take no part: kept.hpp
// Work      2MNK flop; one Philox call for 8 elements of y: docs/performance.md has what that costs
// Tiling    gemm.hpp; the epilogue runs on each register tile while it is in the L1
// Numerics  accumulation in the operands' type (bf16: f32), in k order; |err| <= c K eps sum|x||w|; kept NaN and Inf propagate
// Limits    any M, N, K >= 0; no read past the last element; re-entrant; memory from scratch.hpp only
#pragma once

#include "core/args.hpp"
#include "cpu/buffers.hpp"
#include "cpu/kept.hpp"
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

  ForwardSink(const LinearForwardArgs& args, const Keeper& keeper, Finish finish, T fill, u32* words)
      : args_(args),
        outputs_(args.outputs, args.N),
        keeper_(keeper),
        finish_(finish),
        words_(words),
        scale_(static_cast<T>(keep_scale(args.mask.threshold))),
        fill_(fill) {}

  bool holds_sums() const { return std::is_same_v<S, T> && outputs_.all(); }
  void prefetch(i64 i, i64 rows, i64 j, i64 cols) const {
    const Range range = outputs_.owned(j, cols);
    prefetch_tile(static_cast<const S*>(args_.y) + i * args_.N + range.begin, args_.N, rows, range.size());
  }

  S* c() { return static_cast<S*>(args_.y); }
  i64 ld() const { return args_.N; }

  void begin_strip(i64 i, i64 rows, i64 j, i64 cols) {
    strip_row_ = i;
    strip_col_ = j;
    if (outputs_.all()) keeper_.strip(i, rows, j, words_);
    const S* b = static_cast<const S*>(args_.b);
    for (i64 c = 0; c < kGroup; ++c)
      bias_[c] = b != nullptr && c < cols ? widen(b[outputs_.at(j + c) * args_.b_stride]) : T(0);
  }

  void finish(i64 i, i64 rows, i64 j, i64 cols, const T* tile) { finish_(*this, i, rows, j, cols, tile); }

  template <class Act>
  static void finish_tile(ForwardSink& s, i64 i, i64 rows, i64 j, i64 cols, const T* tile) {
    if (!s.outputs_.all()) return s.template finish_compact<Act>(i, rows, j, cols, tile);
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

  // All of y where unit dropout keeps no column.
  void fill(Range rows) const { write_rows(rows.begin, rows.size(), 0, 0, nothing_, nothing_, 0); }

 private:
  // A tile's columns are kept ones: all are computed, then spread over the columns of y that they own. In two passes: a
  // row that was just stored in aligned packs cannot be loaded from the middle until it has left the store buffer.
  template <class Act>
  void finish_compact(i64 i, i64 rows, i64 j, i64 cols, const T* tile) const {
    using V = Vec<T>;
    constexpr int NR = Tiling<T>::NR, kRoom = NR + V::W;
    const V scale(scale_);
    alignas(64) T y[Tiling<T>::MR * kRoom], z[Tiling<T>::MR * kRoom];
    for (i64 r = 0; r < rows; ++r)
      for (int c = 0; c < NR; c += V::W) {
        const V sum = V::load(tile + r * NR + c) + V::load(bias_ + (j - strip_col_) + c);
        if (args_.z != nullptr) sum.store(z + r * kRoom + c);
        Epilogue<Act>::forward(sum, V::lanes(~0u), scale, args_.before).store(y + r * kRoom + c);
      }
    write_rows(i, rows, j, cols, y, z, kRoom);
  }

  void write_rows(i64 i, i64 rows, i64 j, i64 cols, const T* y, const T* z, i64 ld) const {
    const View<S> residual = View<S>(args_.residual).at(i, 0);
    const auto row_of = [&](void* array) { return [=](i64 r) { return static_cast<S*>(array) + (i + r) * args_.N; }; };
    const View<S>* add = args_.residual.data == nullptr ? nullptr : &residual;
    expand_rows(outputs_, j, cols, rows, y, ld, fill_, add, row_of(args_.y));
    if (args_.z != nullptr) expand_rows<S>(outputs_, j, cols, rows, z, ld, T(0), nullptr, row_of(args_.z));
  }

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

  static constexpr T nothing_[Vec<T>::W] = {};
  const LinearForwardArgs& args_;
  Axis outputs_;
  const Keeper& keeper_;
  Finish finish_;
  u32* words_;
  T scale_, fill_;
  i64 strip_row_ = 0, strip_col_ = 0;
  alignas(64) T bias_[kGroup];
};

template <class S>
struct ForwardJob {
  using T = sum_of<S>;
  const LinearForwardArgs& args;
  Keeper keeper, input_keeper;
  typename ForwardSink<S>::Finish finish;
  T fill;  // of dropped columns: 0, or act(0) where the dropout comes first
  Axis outputs, inputs;
  Grid grid;
  char* const* memory;  // a buffer a thread
  BufferLayout<S> layout;

  void run(int thread) {
    u32* words = layout.words(memory[thread]);
    S* gathered = layout.gathered(memory[thread]);
    const i64 K = inputs.count(), room = layout.row_room();
    const View<S> x(args.x), w(args.w);
    const Axis every_row;
    auto pack_a = [&](i64 i, i64 rows, i64 step, i64 depth, T* dst, bool) {
      const Range k = elements<S>(step, depth, K);
      for (i64 r = 0; !inputs.all() && r < rows; ++r) {
        gather(x, every_row, i + r, 1, inputs, k.begin, k.size(), static_cast<T>(args.input_scale), gathered, room);
        Packer<S>::rows(View<S>(gathered, room, 1), 1, k.size(), dst + r * Packer<S>::LDA);
      }
      if (!inputs.all()) return;
      Packer<S>::rows(x.at(i, k.begin), rows, k.size(), dst);
      Packer<S>::drop_rows(input_keeper, i, rows, k.begin, k.size(), dst, words);
    };
    auto pack_b = [&](i64 step, i64 depth, i64 j, i64 cols, T* dst) {
      const Range k = elements<S>(step, depth, K);
      if (inputs.all())
        return Packer<S>::panels(w.with_rows(outputs.index()).transposed().at(k.begin, j), k.size(), cols, dst);
      gather(w, outputs, j, cols, inputs, k.begin, k.size(), T(1), gathered, room);
      Packer<S>::panels(View<S>(gathered, 1, room), k.size(), cols, dst);
    };
    ForwardSink<S> sink(args, keeper, finish, fill, words);
    const Range rows = grid_rows(grid, thread, args.M);
    if (outputs.count() == 0) return sink.fill(rows);
    gemm_rectangle<Order::by_rows, S>(rows, grid_cols(grid, thread, outputs.count()), pack_a, pack_b, sink,
                                      layout.buffers(memory[thread]));
  }
};

template <class S>
void linear_forward_typed(const LinearForwardArgs& args) {
  using T = sum_of<S>;
  const auto finish = with_activation(args.activation, [](auto act) -> typename ForwardSink<S>::Finish {
    return &ForwardSink<S>::template finish_tile<decltype(act)>;
  });
  const T fill = with_activation(args.activation, [&](auto act) {
    T lanes[Vec<T>::W];
    decltype(act)::forward(Vec<T>(T(0))).store(lanes);
    return args.before ? lanes[0] : T(0);
  });
  const Axis outputs(args.outputs, args.N), inputs(args.inputs, args.K);
  // In multiply-adds an element: packing w, transposed, costs about 9. A copy of x costs 4; that two threads then read the
  // same x and write the same rows of y costs more, so that 30 picks the faster grid.
  const Grid grid = choose_grid({args.M, outputs.count(), inputs.count(), 30, 9, 4, kGroup});
  const BufferLayout<S> layout(Order::by_rows, grid.col_chunk, inputs.count(), !outputs.all() || !inputs.all());
  ForwardJob<S> job{args,  Keeper(args.mask), Keeper(args.input_mask), finish, fill, outputs, inputs, grid, nullptr,
                    layout};
  job.memory = scratch(grid.threads(), layout.size());
  run_threads(grid.threads(), [](int thread, void* p) { static_cast<ForwardJob<S>*>(p)->run(thread); }, &job);
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
