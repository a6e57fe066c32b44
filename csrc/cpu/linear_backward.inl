// linear_backward: dz = dy * mask * act', dx = dz w, dw = dzᵀ x, db = sum_i dz
//   dy [M,N] any strides | x [M,K] | w [N,K] | kept [M,N]: y, z or nothing | dx [M,K] | dw [N,K] | db [N], each or
//   null the masks of y and of x are drawn again from their names: nothing random is stored
//   unit dropout: columns of dy and rows of w that are not kept take no part, rows of dw and elements of db are 0: kept.hpp
// Work      4MNK flop for both products; dz is formed in the packing of each, a block at a time, and never stored
//           whole
// Tiling    gemm.hpp; dz blocks keep dy's row order in both products, dw reads them by columns
// Numerics  as forward; db adds rows 0 .. M-1 in order in the type of the sums, the same for any thread count
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

// Forms blocks of dz, and db on the way where asked.
template <class S>
class GradientPacker {
 public:
  using T = sum_of<S>;
  using Form = void (*)(const GradientPacker&, Order, i64 i, i64 rows, i64 j, i64 cols, T* dst, i64 ld, T* db);

  GradientPacker(const LinearBackwardArgs& args)
      : args_(args),
        outputs_(args.outputs, args.N),
        keeper_(needed_mask(args)),
        scale_(static_cast<T>(keep_scale(args.mask.threshold))),
        rescale_(scale_ == T(0) ? T(0) : T(1) / scale_) {
    form_ =
        with_activation(args.activation, [](auto act) -> Form { return &GradientPacker::form_block<decltype(act)>; });
  }

  // dst[r*ld + c] = dz(i + r, j + c), rows padded with zeros to whole strips; pairs of bfloat16 lie along the rows for
  // a block of A that is read by rows, along the columns for one that is read by columns.
  // db[c] += the block's column sums, unless null. Columns are those that count: compact ones under unit dropout.
  void form(Order order, i64 i, i64 rows, i64 j, i64 cols, T* dst, i64 ld, T* db) const {
    form_(*this, order, i, rows, j, cols, dst, ld, db);
  }

 private:
  // relu's own output tells kept and positive from everything else: reading y costs less than drawing the mask again.
  static Mask needed_mask(const LinearBackwardArgs& args) {
    Mask mask = args.mask;
    if (args.activation == Activation::relu && args.saved == Saved::output) mask.threshold = 0;
    return mask;
  }

  template <class Act>
  static void form_block(const GradientPacker& self, Order order, i64 i, i64 rows, i64 j, i64 cols, T* dst, i64 ld,
                         T* db) {
    if (!self.outputs_.all()) return self.template form_compact<Act>(order, i, rows, j, cols, dst, ld, db);
    for (i64 r = 0; r < rows; r += 4) {  // four rows of a strip share a generator call
      const i64 n = minimum(4, rows - r);
      for (i64 s = 0; s < cols; s += kGroup) {
        u32 words[4];
        self.keeper_.strip(i + r, n, j + s, words);
        T* sums = db == nullptr ? nullptr : db + s;
        const i64 width = minimum(kGroup, cols - s);
        if constexpr (Format<S>::pair == 1) {
          self.template form_strip<Act>(i + r, n, j + s, width, words, dst + r * ld + s, ld, sums);
        } else {
          alignas(64) T strip[4 * kGroup];
          self.template form_strip<Act>(i + r, n, j + s, width, words, strip, kGroup, sums);
          if (order == Order::by_rows)
            Packer<S>::store_rows(strip, n, dst + r * ld + s / 2, ld);
          else
            Packer<S>::store_row_pairs(strip, n, dst + r / 2 * ld + s, ld);
        }
      }
    }
  }

  // Row by row over the original columns, kept lanes moved together; whole packs may spill into the row after.
  template <class Act>
  void form_compact(Order order, i64 i, i64 rows, i64 j, i64 cols, T* dst, i64 ld, T* db) const {
    if constexpr (Format<S>::pair == 1) {
      for (i64 r = 0; r < rows; ++r, dst += ld) {
        form_row<Act>(i + r, j, cols, dst);
        for (i64 c = 0; db != nullptr && c < cols; ++c) db[c] += dst[c];
      }
    } else {
      form_pairs<Act>(order, i, rows, j, cols, dst, ld, db);
    }
  }

  template <class Act>
  void form_pairs(Order order, i64 i, i64 rows, i64 j, i64 cols, T* dst, i64 ld, T* db) const {
    constexpr i64 kRoom = Tiling<T>::KC * Format<S>::pair + Vec<T>::W;
    alignas(64) T row[2][kRoom];
    for (i64 r = 0; r < rows; ++r) {
      T* mine = row[r % 2];
      form_row<Act>(i + r, j, cols, mine);
      mine[cols] = T(0);  // what an odd row's last pair ends with
      for (i64 c = 0; db != nullptr && c < cols; ++c) db[c] += mine[c];
      if (order == Order::by_rows)
        Packer<S>::store_row(mine, cols, dst + r * ld);
      else if (r % 2 == 1 || r + 1 == rows)
        Packer<S>::store_row_pair(row[0], r % 2 == 1 ? row[1] : nullptr, cols, dst + r / 2 * ld);
    }
  }

  template <class Act>
  FD_FN void form_row(i64 i, i64 j, i64 cols, T* dst) const {
    using V = Vec<T>;
    const View<S> dy = View<S>(args_.dy).at(i, 0);
    const View<S> kept(args_.kept == nullptr ? nullptr : static_cast<const S*>(args_.kept) + i * args_.N, args_.N, 1);
    const V scale(scale_), rescale(rescale_);
    const auto dz = [&](i64 c) {
      const V saved = kept.p == nullptr ? V(T(0)) : load_row<V>(kept, c, args_.N);
      return Epilogue<Act>::backward(load_row<V>(dy, c, args_.N), saved, args_.saved, V::lanes(~0u), scale, rescale,
                                     args_.before);
    };
    compress_row<V>(outputs_, j, cols, dz, dst);
  }

  template <class Act>
  FD_FN void form_strip(i64 i, i64 rows, i64 j, i64 cols, const u32* words, T* dst, i64 ld, T* db) const {
    using V = Vec<T>;
    S dy_row[kGroup], kept_row[kGroup];
    const View<S> dy(args_.dy), kept(static_cast<const S*>(args_.kept), args_.N, 1);
    const V scale(scale_), rescale(rescale_);
    for (i64 r = 0; r < rows; ++r, dst += ld) {
      const S* g = strip_row(dy.at(i + r, j), cols, dy_row);
      const S* s = kept.p == nullptr ? nullptr : strip_row(kept.at(i + r, j), cols, kept_row);
      for (int c = 0; c < kGroup; c += V::W) {
        const V saved = s == nullptr ? V(T(0)) : V::load(s + c);
        V dz = Epilogue<Act>::backward(V::load(g + c), saved, args_.saved, V::lanes(words[r] >> c), scale, rescale,
                                       args_.before);
        if (cols < kGroup) dz = select(V::lanes(((u32{1} << cols) - 1) >> c), dz, V(T(0)));
        dz.store(dst + c);
        if (db != nullptr) (V::load(db + c) + dz).store(db + c);
      }
    }
  }

  static FD_FN const S* strip_row(View<S> row, i64 cols, S* buffer) {
    if (row.cs == 1 && cols == kGroup) return row.p;
    for (i64 c = 0; c < kGroup; ++c) buffer[c] = c < cols ? row(0, c) : S{};
    return buffer;
  }

  const LinearBackwardArgs& args_;
  Axis outputs_;
  Keeper keeper_;
  T scale_, rescale_;
  Form form_;
};

// The sink of both gradients: a store to the rows and columns that count, with the mask of x over dx where the layer drops
// its input. Other columns become 0 with their neighbours; other rows are zero_rows' business.
template <class S>
class StoreSink {
 public:
  using T = sum_of<S>;
  StoreSink(S* c, i64 ld, const Axis& row_axis, const Axis& col_axis, T factor, const Keeper* keeper, u32* words)
      : c_(c), ld_(ld), row_axis_(row_axis), col_axis_(col_axis), factor_(factor), keeper_(keeper), words_(words) {}
  S* c() { return c_; }
  i64 ld() const { return ld_; }
  bool holds_sums() const { return std::is_same_v<S, T> && row_axis_.all() && col_axis_.all(); }
  void prefetch(i64 i, i64 rows, i64 j, i64 cols) const {
    const Range range = col_axis_.owned(j, cols);
    for (i64 r = 0; r < rows; ++r) prefetch_tile(c_ + row_axis_.at(i + r) * ld_ + range.begin, ld_, 1, range.size());
  }

  void begin_strip(i64 i, i64 rows, i64 j, i64) {
    strip_row_ = i;
    strip_col_ = j;
    if (dropping()) keeper_->strip(i, rows, j, words_);
  }

  void finish(i64 i, i64 rows, i64 j, i64 cols, T* tile) {
    constexpr int NR = Tiling<T>::NR;
    using V = Vec<T>;
    if (dropping()) {
      const V scale(static_cast<T>(keep_scale(keeper_->mask().threshold)));
      for (i64 r = 0; r < rows; ++r) {
        const u32 word = words_[i + r - strip_row_] >> (j - strip_col_);
        for (int c = 0; c < NR; c += V::W) {
          T* p = tile + r * NR + c;
          select(V::lanes(word >> c), V::load(p) * scale, V(T(0))).store(p);
        }
      }
    }
    const auto row_of = [&](i64 r) { return c_ + row_axis_.at(i + r) * ld_; };
    if (col_axis_.all()) {
      for (i64 r = 0; r < rows; ++r) copy_row(tile + r * NR, cols, row_of(r) + j);
      return;
    }
    constexpr int kRoom = NR + V::W;
    alignas(64) T scaled[Tiling<T>::MR * kRoom];
    for (i64 r = 0; r < rows; ++r)
      for (int c = 0; c < NR; c += V::W) (V::load(tile + r * NR + c) * V(factor_)).store(scaled + r * kRoom + c);
    expand_rows<S>(col_axis_, j, cols, rows, scaled, kRoom, T(0), nullptr, row_of);
  }

  // Rows of C that compact rows i .. i+rows-1 own but that are not kept, or all of them where no column is.
  void zero_rows(i64 i, i64 rows) const {
    const Range range = row_axis_.owned(i, rows);
    for (i64 r = range.begin; r < range.end; ++r)
      if (col_axis_.count() == 0 || (!row_axis_.all() && (row_axis_.bits(r) & 1) == 0))
        for (i64 c = 0; c < ld_; ++c) narrow(T(0), c_[r * ld_ + c]);
  }

 private:
  bool dropping() const { return keeper_ != nullptr && !keeper_->keeps_all(); }
  S* c_;
  i64 ld_;
  const Axis &row_axis_, &col_axis_;
  T factor_;  // of a unit mask of x
  const Keeper* keeper_;
  u32* words_;
  i64 strip_row_ = 0, strip_col_ = 0;
};

template <class S>
struct BackwardJob {
  using T = sum_of<S>;
  const LinearBackwardArgs& args;
  GradientPacker<S> gradient;
  Keeper input_keeper;
  Axis every, outputs, inputs;
  Grid grid;
  BufferLayout<S> layout;
  char* const* memory = nullptr;  // a buffer a thread, and one more for db_sums
  T* db_sums = nullptr;  // [N rounded up to whole strips], shared: each thread adds to its own columns

  explicit BackwardJob(const LinearBackwardArgs& a)
      : args(a), gradient(a), input_keeper(a.input_mask), outputs(a.outputs, a.N), inputs(a.inputs, a.K) {}

  void allocate(Order order, i64 cols, i64 K) {
    layout = BufferLayout<S>(order, cols, K, !outputs.all() || !inputs.all());
    memory = scratch(grid.threads() + 1, maximum(layout.size(), round_up(args.N, kGroup) * i64{sizeof(T)}));
    db_sums = reinterpret_cast<T*>(memory[grid.threads()]);
  }

  T input_scale() const { return inputs.all() ? T(1) : static_cast<T>(args.input_scale); }

  // dx [M,K] = dz [M,N] w [N,K]
  void run_dx(int thread) {
    const View<S> w(args.w);
    S* gathered = layout.gathered(memory[thread]);
    const Range rows = grid_rows(grid, thread, args.M), cols = grid_cols(grid, thread, inputs.count());
    auto pack_a = [&](i64 i, i64 rows, i64 step, i64 depth, T* dst, bool) {
      const Range n = elements<S>(step, depth, outputs.count());
      gradient.form(Order::by_rows, i, rows, n.begin, n.size(), dst, Tiling<T>::LDA, nullptr);
    };
    auto pack_b = [&](i64 step, i64 depth, i64 j, i64 cols, T* dst) {
      const Range n = elements<S>(step, depth, outputs.count());
      if (inputs.all()) return Packer<S>::panels(w.with_rows(outputs.index()).at(n.begin, j), n.size(), cols, dst);
      gather(w, outputs, n.begin, n.size(), inputs, j, cols, T(1), gathered, layout.kGathered);
      Packer<S>::panels(View<S>(gathered, layout.kGathered, 1), n.size(), cols, dst);
    };
    StoreSink<S> sink(static_cast<S*>(args.dx), args.K, every, inputs, input_scale(), &input_keeper,
                      layout.words(memory[thread]));
    if (inputs.count() == 0) return sink.zero_rows(rows.begin, rows.size());
    gemm_rectangle<Order::by_rows, S>(rows, cols, pack_a, pack_b, sink, layout.buffers(memory[thread]));
  }

  // dw [N,K] = dzᵀ [N,M] x [M,K]; the threads of the first columns of K also sum db, and clear the rows left out.
  void run_dw(int thread) {
    const View<S> x(args.x);
    S* gathered = layout.gathered(memory[thread]);
    const Range rows = grid_rows(grid, thread, outputs.count()), cols = grid_cols(grid, thread, inputs.count());
    auto pack_a = [&](i64 n, i64 rows, i64 step, i64 depth, T* dst, bool first) {
      const Range m = elements<S>(step, depth, args.M);
      T* sums = first && cols.begin == 0 ? db_sums + n : nullptr;
      gradient.form(Order::by_cols, m.begin, m.size(), n, rows, dst, Tiling<T>::MC, sums);
    };
    auto pack_b = [&](i64 step, i64 depth, i64 j, i64 width, T* dst) {
      const Range m = elements<S>(step, depth, args.M);
      if (!inputs.all()) {
        gather(x, every, m.begin, m.size(), inputs, j, width, input_scale(), gathered, layout.kGathered);
        return Packer<S>::panels(View<S>(gathered, layout.kGathered, 1), m.size(), width, dst);
      }
      Packer<S>::panels(x.at(m.begin, j), m.size(), width, dst);
      Packer<S>::drop_panels(input_keeper, m.begin, m.size(), j, width, dst, layout.words(memory[thread]));
    };
    StoreSink<S> sink(static_cast<S*>(args.dw), args.K, outputs, inputs, T(1), nullptr, nullptr);
    if (cols.begin == 0 && (rows.size() > 0 || outputs.count() == 0)) sink.zero_rows(rows.begin, rows.size());
    gemm_rectangle<Order::by_cols, S>(rows, cols, pack_a, pack_b, sink, layout.buffers(memory[thread]));
  }

  static constexpr i64 kDbRows = 64;  // formed at a time

  // db alone, for a layer whose weight is frozen (or has no inputs): dz is formed and forgotten.
  void run_db(int thread) {
    const Range mine = grid_rows(grid, thread, outputs.count());
    constexpr i64 width = Tiling<T>::MC, depth = kDbRows;
    for (i64 n = mine.begin; n < mine.end; n += width)
      for (i64 m = 0; m < args.M; m += depth)
        gradient.form(Order::by_cols, m, minimum(depth, args.M - m), n, minimum(width, mine.end - n),
                      layout.buffers(memory[thread]).a, width, db_sums + n);
  }

  template <void (BackwardJob::*part)(int)>
  void run() {
    run_threads(grid.threads(), [](int thread, void* p) { (static_cast<BackwardJob*>(p)->*part)(thread); }, this);
  }

  // In multiply-adds an element: copying about 4; forming dz about 20, and as much again or twice where two threads read
  // the same dy and y.
  void input_gradient() {
    grid = choose_grid({args.M, inputs.count(), outputs.count(), 60, 4, 4, kGroup});
    allocate(Order::by_rows, grid.col_chunk, outputs.count());
    run<&BackwardJob::run_dx>();
  }

  void weight_gradient() {
    const i64 rows = outputs.count(), cols = inputs.count();
    const bool product = args.dw != nullptr && cols > 0;
    const i64 unit = outputs.all() ? kGroup : 4;  // whole strips of the mask, where one is drawn
    grid = choose_grid({rows, product ? cols : 1, args.M, 20, 4, unit, kGroup});
    if (!product)
      grid.rows = grid.threads(), grid.cols = 1, grid.row_chunk = round_up((rows + grid.rows - 1) / grid.rows, unit);
    allocate(Order::by_cols, product ? grid.col_chunk : kGroup, product ? args.M : kDbRows);
    for (i64 n = 0; n < round_up(args.N, kGroup); ++n) db_sums[n] = T(0);
    if (product) {
      run<&BackwardJob::run_dw>();
    } else {
      if (args.dw != nullptr)
        StoreSink<S>(static_cast<S*>(args.dw), args.K, every, inputs, T(1), nullptr, nullptr).zero_rows(0, args.N);
      run<&BackwardJob::run_db>();
    }
    if (args.db != nullptr) write_db();
  }

  void write_db() const {
    S* db = static_cast<S*>(args.db);
    if (outputs.all()) return copy_row(db_sums, args.N, db);
    for (i64 n = 0; n < args.N; ++n) narrow(T(0), db[n]);
    for (i64 n = 0; n < outputs.count(); ++n) narrow(db_sums[n], db[outputs.at(n)]);
  }
};

template <class S>
void linear_backward_typed(const LinearBackwardArgs& args) {
  BackwardJob<S> job(args);
  if (args.dx != nullptr) job.input_gradient();
  if (args.dw != nullptr || args.db != nullptr) job.weight_gradient();
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
