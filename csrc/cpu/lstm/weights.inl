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
class WeightSink {
 public:
  WeightSink(const LstmBackwardArgs& args, i64 h_column) : args_(args), h_column_(h_column) {}
  bool holds_sums() const { return false; }  // C is two arrays, dw_ih and dw_hh
  T* c() { return nullptr; }
  i64 ld() const { return 0; }
  void prefetch(i64, i64, i64, i64) const {}
  void begin_strip(i64, i64, i64, i64) const {}

  void epilogue(i64 i, i64 rows, i64 j, i64 cols, const T* tile) const {
    const bool of_x = j < h_column_;
    const i64 width = of_x ? args_.I : args_.H, at = of_x ? j : j - h_column_;
    T* dw = static_cast<T*>(of_x ? args_.dw_ih : args_.dw_hh);
    copy_tile(tile, Tiling<T>::NR, rows, minimum(cols, width - at), dw + i * width + at, width);
  }

 private:
  const LstmBackwardArgs& args_;
  i64 h_column_;
};

template <class T>
struct WeightJob {
  static constexpr int NR = Tiling<T>::NR;
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
    const View<T> dz(static_cast<const T*>(args.dz), kGates * args.H, 1);
    const MaskBits x_mask_bits(args.input.of(gate, args.I)), h_mask_bits(args.recurrent.of(gate, args.H));
    auto pack_a = [&](i64 n, i64 count, i64 m, i64 depth, T* dst, bool first) {
      pack_rows(dz.at(m, n), depth, count, dst, Tiling<T>::MC);
      if (first && db != nullptr) add_rows(dst, depth, count, db + n);
    };
    auto pack_b = [&](i64 m, i64 depth, i64 j, i64 width, T* dst) {
      const bool of_x = j < h_column;
      const View<T> source = of_x ? View<T>(args.x) : View<T>(static_cast<const T*>(args.h_prev), args.H, 1);
      const i64 at = of_x ? j : j - h_column, n = minimum(width, (of_x ? args.I : args.H) - at);
      pack_panels<NR>(source.at(m, at), depth, n, dst);
      for (i64 c = round_up(n, NR) * depth; c < width * depth; ++c) dst[c] = T(0);  // the panels of the padding
      drop_panels<NR>(of_x ? x_mask_bits : h_mask_bits, m, depth, at, n, dst, layout.words(memory[thread]));
    };
    if (columns.size() == 0) return sum_rows(rows, pack_a, workspace);
    WeightSink<T> sink(args, h_column);
    gemm_rectangle<Order::by_cols, T>(rows, columns, pack_a, pack_b, sink, workspace);
  }

  // Only db, where neither dw_ih nor dw_hh is wanted.
  template <class PackA>
  void sum_rows(Range rows, PackA& pack_a, const Workspace<T>& workspace) const {
    const auto& [k_steps, depth, width, band] = workspace.block_sizes;
    for (i64 n = rows.begin; n < rows.end; n += Tiling<T>::MC)
      for (i64 m = 0; m < k_steps; m += depth)
        pack_a(n, minimum(Tiling<T>::MC, rows.end - n), m, minimum(depth, k_steps - m), workspace.a, true);
  }

  // db += the rows of a packed block of A, in order.
  static void add_rows(const T* block, i64 depth, i64 count, T* db) {
    for (i64 k = 0; k < depth; ++k, block += Tiling<T>::MC)
      for (i64 c = 0; c < count; ++c) db[c] += block[c];
  }
};

template <class T>
void weight_gradients(const LstmBackwardArgs& args) {
  if (args.dw_ih == nullptr && args.dw_hh == nullptr && args.db == nullptr) return;
  WeightJob<T> job(args);
  run_threads(job.grid.threads(), [](int thread, void* p) { static_cast<const WeightJob<T>*>(p)->run(thread); }, &job);
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
