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
#include "cpu/gemm/workspace.hpp"
#if FD_BF16_DOT
#include "cpu/gemm/pack_bf16.hpp"
#endif

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class S>
struct ForwardJob {
  using T = acc_t<S>;
  const LinearForwardArgs& args;
  MaskBits mask_bits, input_mask_bits;
  typename EpilogueSink<S>::TileEpilogue tile_epilogue;
  T fill;  // value of dropped columns: 0, or act(0) where dropout comes first
  ActiveAxis outputs, inputs;
  ThreadGrid grid;
  char* const* memory;  // one buffer per thread
  WorkspaceLayout<S> layout;

  void run(int thread) {
    u32* words = layout.words(memory[thread]);
    S* gather_buffer = layout.gather_buffer(memory[thread]);
    const i64 K = inputs.count(), room = layout.row_room();
    const View<S> x(args.x), w(args.w);
    const ActiveAxis all_rows;
    auto pack_a = [&](i64 i, i64 rows, i64 k_step, i64 depth, T* dst, bool) {
      const Range k = elements<S>(k_step, depth, K);
      for (i64 r = 0; !inputs.all() && r < rows; ++r) {
        gather(x, all_rows, i + r, 1, inputs, k.begin, k.size(), static_cast<T>(args.input_scale), gather_buffer, room);
        Packer<S>::rows(View<S>(gather_buffer, room, 1), 1, k.size(), dst + r * Packer<S>::LDA);
      }
      if (!inputs.all()) return;
      Packer<S>::rows(x.at(i, k.begin), rows, k.size(), dst);
      Packer<S>::drop_rows(input_mask_bits, i, rows, k.begin, k.size(), dst, words);
    };
    auto pack_b = [&](i64 k_step, i64 depth, i64 j, i64 cols, T* dst) {
      const Range k = elements<S>(k_step, depth, K);
      if (inputs.all())
        return Packer<S>::panels(w.with_rows(outputs.index()).transposed().at(k.begin, j), k.size(), cols, dst);
      gather(w, outputs, j, cols, inputs, k.begin, k.size(), T(1), gather_buffer, room);
      Packer<S>::panels(View<S>(gather_buffer, 1, room), k.size(), cols, dst);
    };
    EpilogueSink<S> sink(args, mask_bits, tile_epilogue, fill, words);
    const Range rows = grid_rows(grid, thread, args.M);
    if (outputs.count() == 0) return sink.fill(rows);
    gemm_rectangle<Order::by_rows, S>(rows, grid_cols(grid, thread, outputs.count()), pack_a, pack_b, sink,
                                      layout.workspace(memory[thread]));
  }
};

template <class S>
void linear_forward_typed(const LinearForwardArgs& args) {
  using T = acc_t<S>;
  const auto tile_epilogue = with_activation(args.activation, [](auto act) -> typename EpilogueSink<S>::TileEpilogue {
    return &EpilogueSink<S>::template epilogue_tile<decltype(act)>;
  });
  const T fill = with_activation(args.activation, [&](auto act) {
    T lanes[Vec<T>::W];
    decltype(act)::forward(Vec<T>(T(0))).store(lanes);
    return args.dropout_first ? lanes[0] : T(0);
  });
  const ActiveAxis outputs(args.outputs, args.N), inputs(args.inputs, args.K);
  // Costs in multiply-adds per element: packing w, which transposes it, costs about 9. A copy of x costs 4; but two
  // threads that read the same x and write the same rows of y cost more, and with 30 the faster grid is chosen.
  const ThreadGrid grid = choose_grid({args.M, outputs.count(), inputs.count(), 30, 9, 4, kGroup});
  const WorkspaceLayout<S> layout(Order::by_rows, grid.col_chunk, inputs.count(), !outputs.all() || !inputs.all());
  ForwardJob<S> job{
      args,  MaskBits(args.mask), MaskBits(args.input_mask), tile_epilogue, fill, outputs, inputs, grid, nullptr,
      layout};
  job.memory = scratch(grid.threads(), layout.size());
  run_threads(grid.threads(), [](int thread, void* p) { static_cast<ForwardJob<S>*>(p)->run(thread); }, &job);
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
