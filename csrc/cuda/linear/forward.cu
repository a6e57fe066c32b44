// forward: y = residual + dropout(act(dropout(x) wᵀ + b)), z = dropout(x) wᵀ + b
//   x [M,K] | w [N,K] | b [N] | residual [M,N] | y, z [M,N] C order
//   unit dropout: dropped rows of w are not read, and fill_dropped() writes their columns of y
// Work      2MNK flop on tensor cores (float32: on CUDA cores, unless TF32 is requested); see gemm/loops.hpp
// Masks     of y: drawn in registers before the product. Of x: single elements are dropped in a copy of x, made once
// Limits    any M, N, K >= 0, any strides; columns of a list are counted in 31 bits
#include "cuda/linear/inputs.hpp"
#include "cuda/runtime/launch.hpp"

namespace fusedrop::cuda {
namespace {

i64 run(const LinearForwardArgs& args, const DeviceCall& call, bool counting) {
  Workspace workspace(call.workspace, counting);
  const ColumnList outputs = take_list(workspace, drops_columns(args.epilogue.mask), args.N);
  const LayerInputs inputs = prepare_inputs(
      workspace, {args.dtype, args.M, args.N, args.K, args.x, args.w, args.input_mask, true, true}, call);

  Gemm g{};
  g.dtype = args.dtype;
  g.tf32 = call.tf32;
  g.M = args.M, g.N = args.N, g.K = args.K;
  g.n_count = outputs.count, g.k_count = inputs.columns.count;
  g.a = {inputs.x.data, inputs.x.row_stride, inputs.x.col_stride};
  g.b = {inputs.w.data, inputs.w.row_stride, inputs.w.col_stride, outputs.index};
  g.epilogue.y = args.y, g.epilogue.z = args.z, g.epilogue.ld = args.N;
  g.epilogue.b = args.epilogue.b, g.epilogue.b_stride = args.epilogue.b_stride;
  g.epilogue.residual = args.residual;
  g.epilogue.cols = outputs.index;
  g.epilogue.activation = args.epilogue.activation, g.epilogue.dropout_first = args.epilogue.dropout_first;
  g.epilogue.mask = mask_of_elements(args.epilogue.mask), g.epilogue.scale = scale_of(args.epilogue.mask);
  plan(g);
  g.partial = workspace.take<float>(partial_floats(g));
  if (workspace.counting()) return workspace.used();

  if (outputs.index != nullptr) {
    fill_list(outputs, args.epilogue.mask, nullptr, args.N, call.stream);
    fill_dropped(args, call.stream);
  }
  multiply(g, call.stream);
  return workspace.used();
}

}  // namespace

i64 linear_forward_workspace(const LinearForwardArgs& args, const DeviceCall& call) { return run(args, call, true); }

void linear_forward(const LinearForwardArgs& args, const DeviceCall& call) { run(args, call, false); }

}  // namespace fusedrop::cuda
