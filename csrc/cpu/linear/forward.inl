// linear_forward: y = residual + dropout(act(x wᵀ + b))
//   x [M,K] f32, f64 or bf16, any strides | w [N,K] | b [N] or null | residual [M,N] or null | y [M,N]
//   z [M,N] or null
//   mask = f(seed, stream, step, row0+i, col0+j), core/mask.hpp
//   x may have a mask of its own, which is applied while x is packed
//   unit dropout: dropped columns of y, or of x, take no part, see cpu/gemm/active_columns.hpp
// Work      2MNK flop; one Philox call for 8 elements of y, whose cost is in docs/performance.md
// Tiling    cpu/gemm/loops.hpp; the epilogue runs on each register tile while it is in the L1
// Numerics  accumulation in the operands' type (bf16: f32), in k order; |err| <= c K eps sum|x||w|; NaN and Inf
//           propagate where they are not dropped
// Limits    any M, N, K >= 0; no read past the last element; re-entrant; memory only from cpu/runtime/scratch.hpp
#pragma once

#include "core/params/linear.hpp"
#include "cpu/gemm/epilogue_sink.hpp"
#include "cpu/gemm/operands.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

// Costs in multiply-adds per element: packing w, which transposes it, costs about 9. A copy of x costs 4; but two
// threads that read the same x and write the same rows of y cost more, and with 30 the faster grid is chosen.
FD_FN ThreadGrid forward_grid(i64 M, i64 N, i64 K) { return choose_grid({M, N, K, 30, 9, 4, kGroup}); }

template <class S, class Outputs, class Inputs>
struct ForwardJob {
  const LinearForwardArgs& args;
  Outputs outputs;
  Inputs inputs;
  MaskBits mask_bits, input_mask_bits;
  ThreadGrid grid;
  WorkspaceLayout<S> layout;
  char* const* memory;  // one buffer per thread

  ForwardJob(const LinearForwardArgs& a, const Outputs& active_outputs, const Inputs& active_inputs)
      : args(a),
        outputs(active_outputs),
        inputs(active_inputs),
        mask_bits(a.epilogue.mask),
        input_mask_bits(a.input_mask),
        grid(forward_grid(a.M, outputs.count(), inputs.count())),
        layout(Order::by_rows, grid.col_chunk, inputs.count(), !Outputs::all || !Inputs::all),
        memory(scratch(grid.threads(), layout.size())) {}

  void run(int thread) {
    u32* words = layout.words(memory[thread]);
    const EpilogueArrays<S> arrays{static_cast<S*>(args.y), static_cast<S*>(args.z), args.N, args.residual};
    EpilogueSink<S, Outputs> sink(args.epilogue, arrays, outputs, mask_bits, words);
    const Range rows = grid_rows(grid, thread, args.M), cols = grid_cols(grid, thread, outputs.count());
    const View<S> x(args.x), w = View<S>(args.w).with_rows(outputs.index());
    const auto workspace = layout.workspace(memory[thread]);
    if constexpr (!Outputs::all)
      if (outputs.count() == 0) return sink.fill(rows);
    if constexpr (Inputs::all) {
      const DenseA<S> a{x, args.K, input_mask_bits, words};
      const DenseB<S> b{w.transposed(), args.K};
      multiply<Order::by_rows, S>(rows, cols, a, b, sink, workspace);
    } else {
      const auto buffer = layout.gather_buffer(memory[thread]);
      const ActiveA<S> a{x, inputs, static_cast<acc_t<S>>(args.input_scale), buffer};
      const ActiveTransposedB<S> b{w, inputs, buffer};
      multiply<Order::by_rows, S>(rows, cols, a, b, sink, workspace);
    }
  }
};

template <class S>
void linear_forward_typed(const LinearForwardArgs& args) {
  with_indices(args.outputs, args.N, [&](const auto& outputs) {
    with_indices(args.inputs, args.K, [&](const auto& inputs) {
      ForwardJob<S, std::decay_t<decltype(outputs)>, std::decay_t<decltype(inputs)>> job(args, outputs, inputs);
      parallel_for(job.grid.threads(), [&](int thread) { job.run(thread); });
    });
  });
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
