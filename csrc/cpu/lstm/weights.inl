// weights: dw_ih = dzᵀ drop(x) [4H,I], dw_hh = dzᵀ drop(h_{t-1}) [4H,H], db = sum of dz [4H], over all B*T rows
// One product gives both: its columns are those of x, padded to whole strips, then those of h. So dz is packed once.
// Work      8BTH(I + H) flop; where each gate has its own masks, the rows of each gate are a separate product
// Numerics  each element is one chain of fma over rows b*T + t in order; db adds the rows in the same order; the same
//           bits for any number of threads
// Limits    as lstm_backward
#pragma once

#include "core/params/lstm.hpp"
#include "cpu/gemm/workspace.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class T>
class WeightSink : public TileSink {  // C is two arrays, dw_ih and dw_hh
 public:
  WeightSink(const LstmBackwardArgs& args, i64 h_column) : args_(args), h_column_(h_column) {}

  void epilogue(const Rect& at, const T* tile) const {
    const bool of_x = at.j < h_column_;
    const i64 width = of_x ? args_.I : args_.H, column = of_x ? at.j : at.j - h_column_;
    T* dw = static_cast<T*>(of_x ? args_.dw_ih : args_.dw_hh);
    copy_tile(tile, Tiling<T>::NR, at.rows, minimum(at.cols, width - column), dw + at.i * width + column, width);
  }

 private:
  const LstmBackwardArgs& args_;
  i64 h_column_;
};

// A: dz by columns. Sums db while it packs.
template <class T>
struct LstmDzColumns {
  View<T> dz;  // [B*T,4H]
  T* db;  // [4H] or null

  void pack(Range rows, Range m, T* dst, bool first) const {
    pack_rows(dz.at(m.begin, rows.begin), m.size(), rows.size(), dst, Tiling<T>::MC);
    if (first && db != nullptr) add_rows(dst, m.size(), rows.size(), db + rows.begin);
  }

  // db += the rows of a packed block of A, in order.
  static void add_rows(const T* block, i64 depth, i64 count, T* db) {
    for (i64 k = 0; k < depth; ++k, block += Tiling<T>::MC)
      for (i64 c = 0; c < count; ++c) db[c] += block[c];
  }
};

// B: the columns of drop(x), padded to whole strips, and then those of drop(h_{t-1}).
template <class T>
struct LstmInputs {
  const LstmBackwardArgs& args;
  i64 h_column;
  MaskBits x_mask_bits, h_mask_bits;
  u32* words;

  void pack(Range m, Range cols, T* dst) const {
    constexpr int NR = Tiling<T>::NR;
    const bool of_x = cols.begin < h_column;
    const View<T> source = of_x ? View<T>(args.x) : View<T>(static_cast<const T*>(args.h_prev), args.H, 1);
    const i64 at = of_x ? cols.begin : cols.begin - h_column, depth = m.size();
    const i64 n = minimum(cols.size(), (of_x ? args.I : args.H) - at);
    pack_panels<NR>(source.at(m.begin, at), depth, n, dst);
    for (i64 c = round_up(n, NR) * depth; c < cols.size() * depth; ++c) dst[c] = T(0);  // the panels of the padding
    drop_panels<NR>(of_x ? x_mask_bits : h_mask_bits, {m.begin, depth, at, n}, dst, words);
  }
};

template <class T>
struct WeightJob {
  const LstmBackwardArgs& args;
  i64 h_column;  // the first column of h
  Range cols;  // the columns of the wanted gradients
  ThreadGrid grid;
  WorkspaceLayout<T> layout;
  char* const* memory = nullptr;  // one buffer per thread

  explicit WeightJob(const LstmBackwardArgs& a)
      : args(a),
        h_column(round_up(a.I, kGroup)),
        cols{a.dw_ih == nullptr ? h_column : 0, a.dw_hh == nullptr ? h_column : h_column + a.H} {
    grid = choose_grid({kGates * args.H, maximum(cols.size(), 1), args.B * args.T, 20, 4, kGroup, kGroup});
    layout = WorkspaceLayout<T>(Order::by_cols, grid.col_chunk, args.B * args.T, true);
    memory = scratch(grid.threads(), layout.size());
  }

  int products() const { return args.input.by_gate || args.recurrent.by_gate ? kGates : 1; }

  void run(int thread) const {
    const Range rows = grid_rows(grid, thread, kGates * args.H), part = grid_cols(grid, thread, cols.size());
    const Range columns{cols.begin + part.begin, cols.begin + part.end};
    T* db = thread % grid.cols == 0 ? static_cast<T*>(args.db) : nullptr;
    for (i64 n = rows.begin; db != nullptr && n < rows.end; ++n) db[n] = T(0);
    const i64 height = kGates * args.H / products();
    for (int gate = 0; gate < products(); ++gate) {
      const Range part_rows{maximum(rows.begin, gate * height), minimum(rows.end, (gate + 1) * height)};
      if (part_rows.size() > 0 && (columns.size() > 0 || db != nullptr)) multiply(thread, gate, part_rows, columns, db);
    }
  }

  void multiply(int thread, int gate, Range rows, Range columns, T* db) const {
    const Workspace<T> workspace = layout.workspace(memory[thread]);
    const LstmDzColumns<T> dz{View<T>(static_cast<const T*>(args.dz), kGates * args.H, 1), db};
    if (columns.size() == 0) return sum_rows(rows, dz, workspace);
    const LstmInputs<T> inputs{args, h_column, MaskBits(args.input.of(gate, args.I)),
                               MaskBits(args.recurrent.of(gate, args.H)), layout.words(memory[thread])};
    WeightSink<T> sink(args, h_column);
    FD_ISA::multiply<Order::by_cols, T>(rows, columns, dz, inputs, sink, workspace);
  }

  // Only db, where neither dw_ih nor dw_hh is wanted.
  static void sum_rows(Range rows, const LstmDzColumns<T>& dz, const Workspace<T>& workspace) {
    const auto& [k_steps, depth, width, band] = workspace.block_sizes;
    for (i64 n = rows.begin; n < rows.end; n += Tiling<T>::MC)
      for (i64 m = 0; m < k_steps; m += depth)
        dz.pack({n, minimum(n + Tiling<T>::MC, rows.end)}, {m, minimum(m + depth, k_steps)}, workspace.a, true);
  }
};

template <class T>
void weight_gradients(const LstmBackwardArgs& args) {
  if (args.dw_ih == nullptr && args.dw_hh == nullptr && args.db == nullptr) return;
  const WeightJob<T> job(args);
  parallel_for(job.grid.threads(), [&](int thread) { job.run(thread); });
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
