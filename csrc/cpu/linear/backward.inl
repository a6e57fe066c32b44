// linear_backward: dz = dy * mask * act', dx = dz w, dw = dzᵀ x, db = sum_i dz
//   dy [M,N], any strides | x [M,K] | w [N,K] | saved_activation [M,N]: y, z or null
//   dx [M,K], dw [N,K], db [N], each may be null
//   the masks of y and of x are drawn again from their keys: no random bits are stored
//   unit dropout: dropped columns of dy and rows of w take no part; dropped rows of dw and elements of db are 0, see
//   cpu/gemm/active_columns.hpp
// Work      4MNK flop for both products; each product forms dz while it packs, one block at a time; dz is never stored
// Tiling    cpu/gemm/loops.hpp; blocks of dz keep the row order of dy in both products, and dw reads them by columns
// Numerics  as forward; db adds rows 0 .. M-1 in order, in the accumulator type: the same bits for any threads
// Limits    any M, N, K >= 0; no read past the last element; re-entrant; memory only from cpu/runtime/scratch.hpp
#pragma once

#include "core/params/linear.hpp"
#include "cpu/gemm/gradient_sink.hpp"
#include "cpu/linear/dz.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class S, class Outputs, class Inputs>
struct BackwardJob {
  using T = acc_t<S>;
  const LinearBackwardArgs& args;
  Outputs outputs;
  Inputs inputs;
  DzPacker<S> dz_packer;
  MaskBits input_mask_bits;
  ThreadGrid grid;
  WorkspaceLayout<S> layout;
  char* const* memory = nullptr;  // one buffer per thread, and one more for db_sums
  T* db_sums = nullptr;  // [N rounded up to whole strips], shared; each thread adds to its own columns

  BackwardJob(const LinearBackwardArgs& a, const Outputs& active_outputs, const Inputs& active_inputs)
      : args(a),
        outputs(active_outputs),
        inputs(active_inputs),
        dz_packer(a.epilogue, {View<S>(a.dy), static_cast<const S*>(a.saved_activation), a.N}, a.outputs),
        input_mask_bits(a.input_mask) {}

  void allocate(Order order, i64 cols, i64 K) {
    layout = WorkspaceLayout<S>(order, cols, K, !Outputs::all || !Inputs::all);
    memory = scratch(grid.threads() + 1, maximum(layout.size(), round_up(args.N, kGroup) * i64{sizeof(T)}));
    db_sums = reinterpret_cast<T*>(memory[grid.threads()]);
  }

  T input_scale() const { return Inputs::all ? T(1) : static_cast<T>(args.input_scale); }

  // dx [M,K] = dz [M,N] w [N,K]
  void run_dx(int thread) {
    const Range rows = grid_rows(grid, thread, args.M), cols = grid_cols(grid, thread, inputs.count());
    const auto workspace = layout.workspace(memory[thread]);
    const DzRows<S> a{dz_packer, outputs.count()};
    const DenseB<S> b{View<S>(args.w).with_rows(outputs.index()), outputs.count()};
    GradientSink<S, AllIndices, Inputs> sink({static_cast<S*>(args.dx), args.K}, AllIndices(args.M), inputs,
                                             input_scale(), &input_mask_bits, layout.words(memory[thread]));
    if (inputs.count() == 0) return sink.zero_rows(rows.begin, rows.size());
    if constexpr (Inputs::all) {
      multiply<Order::by_rows, S>(rows, cols, a, b, sink, workspace);
    } else {
      const ActiveB<S> active{b, inputs, T(1), layout.gather_buffer(memory[thread])};
      multiply<Order::by_rows, S>(rows, cols, a, active, sink, workspace);
    }
  }

  // dw [N,K] = dzᵀ [N,M] x [M,K]. The threads with the first columns of K also sum db and clear the inactive rows.
  void run_dw(int thread) {
    const Range rows = grid_rows(grid, thread, outputs.count()), cols = grid_cols(grid, thread, inputs.count());
    const auto workspace = layout.workspace(memory[thread]);
    const DzColumns<S> a{dz_packer, args.M, cols.begin == 0 ? db_sums : nullptr};
    const DenseB<S> x{View<S>(args.x), args.M};
    GradientSink<S, Outputs, Inputs> sink({static_cast<S*>(args.dw), args.K}, outputs, inputs, T(1));
    if (cols.begin == 0 && (rows.size() > 0 || outputs.count() == 0)) sink.zero_rows(rows.begin, rows.size());
    if constexpr (Inputs::all) {
      const DroppedB<S> b{x, input_mask_bits, layout.words(memory[thread])};
      multiply<Order::by_cols, S>(rows, cols, a, b, sink, workspace);
    } else {
      const ActiveB<S> b{x, inputs, input_scale(), layout.gather_buffer(memory[thread])};
      multiply<Order::by_cols, S>(rows, cols, a, b, sink, workspace);
    }
  }

  static constexpr i64 kDbRows = 64;  // rows of dz formed at a time

  // Only db, for a layer with a frozen weight or no active inputs: each block of dz is summed and then overwritten.
  void run_db(int thread) {
    const Range rows = grid_rows(grid, thread, outputs.count());
    constexpr i64 width = Tiling<T>::MC, depth = kDbRows;
    for (i64 n = rows.begin; n < rows.end; n += width)
      for (i64 m = 0; m < args.M; m += depth)
        dz_packer.form({m, minimum(depth, args.M - m), n, minimum(width, rows.end - n)},
                       {Order::by_cols, layout.workspace(memory[thread]).a, width, db_sums + n});
  }

  // Costs in multiply-adds per element: a copy costs about 4. Forming dz costs about 20, and two to three times as much
  // where two threads read the same dy and y.
  void input_gradient() {
    grid = choose_grid({args.M, inputs.count(), outputs.count(), 60, 4, 4, kGroup});
    allocate(Order::by_rows, grid.col_chunk, outputs.count());
    parallel_for(grid.threads(), [&](int thread) { run_dx(thread); });
  }

  void weight_gradient() {
    const i64 rows = outputs.count(), cols = inputs.count();
    const bool product = args.dw != nullptr && cols > 0;
    const i64 unit = Outputs::all ? kGroup : 4;  // whole strips of the mask, where a mask is drawn
    grid = choose_grid({rows, product ? cols : 1, args.M, 20, 4, unit, kGroup});
    if (!product)
      grid.rows = grid.threads(), grid.cols = 1, grid.row_chunk = round_up(divide_up(rows, grid.rows), unit);
    allocate(Order::by_cols, product ? grid.col_chunk : kGroup, product ? args.M : kDbRows);
    for (i64 n = 0; n < round_up(args.N, kGroup); ++n) db_sums[n] = T(0);
    if (product) {
      parallel_for(grid.threads(), [&](int thread) { run_dw(thread); });
    } else {
      if (args.dw != nullptr)
        GradientSink<S, AllIndices, Inputs>({static_cast<S*>(args.dw), args.K}, AllIndices(args.N), inputs, T(1))
            .zero_rows(0, args.N);
      parallel_for(grid.threads(), [&](int thread) { run_db(thread); });
    }
    if (args.db != nullptr) write_db();
  }

  void write_db() const {
    S* db = static_cast<S*>(args.db);
    if constexpr (Outputs::all) return copy_row(db_sums, args.N, db);
    for (i64 n = 0; n < args.N; ++n) narrow(T(0), db[n]);
    for (i64 n = 0; n < outputs.count(); ++n) narrow(db_sums[n], db[outputs.at(n)]);
  }
};

template <class S>
void linear_backward_typed(const LinearBackwardArgs& args) {
  with_indices(args.outputs, args.N, [&](const auto& outputs) {
    with_indices(args.inputs, args.K, [&](const auto& inputs) {
      BackwardJob<S, std::decay_t<decltype(outputs)>, std::decay_t<decltype(inputs)>> job(args, outputs, inputs);
      if (args.dx != nullptr) job.input_gradient();
      if (args.dw != nullptr || args.db != nullptr) job.weight_gradient();
    });
  });
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
