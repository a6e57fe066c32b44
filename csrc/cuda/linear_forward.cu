// linear_forward: y = residual + dropout(act(dropout(x) wᵀ + b)), z = dropout(x) wᵀ + b
//   x [M,K] | w [N,K] | b [N] | residual [M,N] | y, z [M,N] C order
//   unit dropout: rows of w that are not kept are not read and their columns of y not computed: a fill has written them
// Work      2MNK flop on tensor cores (float32: on CUDA cores, unless TF32 is asked for); see gemm.hpp
// Masks     of y: drawn in registers before the product. Of x: single elements are dropped in a copy of x, made once
// Limits    any M, N, K >= 0, any strides; columns of a list are counted in 31 bits
#include "cuda/launch.hpp"
#include "cuda/layer_inputs.hpp"

namespace fusedrop::cuda {
namespace {

i64 run(const LinearForwardArgs& args, const Call& call, bool counting) {
  Arena arena(call.workspace, counting);
  const Columns outputs = take_columns(arena, drops_columns(args.mask), args.N);
  const LayerInputs inputs =
      prepare_inputs(arena, {args.dtype, args.M, args.N, args.K, args.x, args.w, args.input_mask, true, true}, call);

  Gemm g{};
  g.dtype = args.dtype;
  g.tf32 = call.tf32;
  g.M = args.M, g.N = args.N, g.K = args.K;
  g.n_count = outputs.count, g.k_count = inputs.columns.count;
  g.a = {inputs.x.data, inputs.x.row_stride, inputs.x.col_stride};
  g.b = {inputs.w.data, inputs.w.row_stride, inputs.w.col_stride, outputs.index};
  g.finish.y = args.y, g.finish.z = args.z, g.finish.ld = args.N;
  g.finish.b = args.b, g.finish.b_stride = args.b_stride;
  g.finish.residual = args.residual;
  g.finish.cols = outputs.index;
  g.finish.activation = args.activation, g.finish.before = args.before;
  g.finish.mask = mask_of_elements(args.mask), g.finish.scale = scale_of(args.mask);
  arrange(g);
  g.partial = arena.take<float>(partial_floats(g));
  if (arena.counting()) return arena.used();

  if (outputs.index != nullptr) {
    list(outputs, args.mask, nullptr, args.N, call.stream);
    fill_dropped(args, call.stream);
  }
  multiply(g, call.stream);
  return arena.used();
}

}  // namespace

i64 linear_forward_workspace(const LinearForwardArgs& args, const Call& call) { return run(args, call, true); }

void linear_forward(const LinearForwardArgs& args, const Call& call) { run(args, call, false); }

}  // namespace fusedrop::cuda
