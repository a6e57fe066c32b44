// backward: dz = dy * mask * act', dx = dz w, dw = dzᵀ x, db = sum_i dz
//   dy [M,N] any strides | x [M,K] | w [N,K] | saved_activation [M,N]: y, z or nothing
//   dx [M,K] | dw [N,K] | db [N], each or null
//   unit dropout: dz has the active columns only, so both products shrink; the other rows of dw are 0
// Work      4MNK flop; dz is computed once, in the pass that also sums db, in the type of dy
// Masks     drawn again from their keys: nothing random is stored
// Limits    as in forward.cu
#include "cuda/linear/inputs.hpp"
#include "cuda/runtime/launch.hpp"

namespace fusedrop::cuda {
namespace {

// The operands that both products share.
struct Backward {
  const LinearBackwardArgs& args;
  const DeviceCall& call;
  ColumnList outputs;
  LayerInputs inputs;
  Matrix dz;  // [M, number of active columns of y]

  // dx [M,K] = dz [M,N] w [N,K]
  Gemm input_gradient() const {
    Gemm g = product(args.M, args.K, args.N);
    g.n_count = inputs.columns.count, g.k_count = outputs.count;
    g.a = {dz.data, dz.row_stride, dz.col_stride};
    g.b = {inputs.w.data, inputs.w.col_stride, inputs.w.row_stride, nullptr, outputs.index};
    g.epilogue.y = args.dx;
    g.epilogue.cols = inputs.columns.index;
    g.epilogue.mask = mask_of_elements(args.input_mask), g.epilogue.scale = scale_of(args.input_mask);
    plan(g);
    return g;
  }

  // dw [N,K] = dzᵀ [N,M] x [M,K]
  Gemm weight_gradient() const {
    Gemm g = product(args.N, args.K, args.M);
    g.m_count = outputs.count, g.n_count = inputs.columns.count;
    g.a = {dz.data, dz.col_stride, dz.row_stride};
    g.b = {inputs.x.data, inputs.x.col_stride, inputs.x.row_stride};
    g.epilogue.y = args.dw;
    g.epilogue.rows = outputs.index, g.epilogue.cols = inputs.columns.index;
    plan(g);
    return g;
  }

  Gemm product(i64 M, i64 N, i64 K) const {
    Gemm g{};
    g.dtype = args.dtype;
    g.tf32 = call.tf32;
    g.M = M, g.N = N, g.K = K;
    g.epilogue.ld = args.K;
    return g;
  }

  void run(Gemm g, float* partial, bool has_gaps) const {
    if (has_gaps) fill_zero(g.epilogue.y, g.M * g.N * element_bytes(g.dtype), call.stream);
    g.partial = partial;
    multiply(g, call.stream);
  }
};

i64 run(const LinearBackwardArgs& args, const DeviceCall& call, bool counting) {
  const bool needs_dx = args.dx != nullptr, needs_dw = args.dw != nullptr;
  Workspace workspace(call.workspace, counting);
  const ColumnList outputs = take_list(workspace, drops_columns(args.epilogue.mask), args.N);
  const LayerInputs inputs = prepare_inputs(
      workspace, {args.dtype, args.M, args.N, args.K, args.x, args.w, args.input_mask, needs_dw, needs_dx}, call);
  // Without mask and activation dz is dy, and the pass only sums db.
  const bool dz_is_dy = args.epilogue.activation == Activation::identity && !drops(args.epilogue.mask);
  void* dz = dz_is_dy || !(needs_dx || needs_dw) ? nullptr : take_matrix(workspace, args.dtype, args.M, args.N);
  float* sums = args.db == nullptr ? nullptr : workspace.take<float>(dz_chunks(args.M) * args.N);
  const Backward backward{args, call, outputs, inputs, dz_is_dy ? args.dy : Matrix{dz, padded(args.N), 1}};
  const Gemm dx = backward.input_gradient(), dw = backward.weight_gradient();
  float* partial_dx = workspace.take<float>(needs_dx ? partial_floats(dx) : 0);
  float* partial_dw = workspace.take<float>(needs_dw ? partial_floats(dw) : 0);
  if (workspace.counting()) return workspace.used();

  fill_list(outputs, args.epilogue.mask, nullptr, args.N, call.stream);
  if (dz != nullptr || args.db != nullptr) compute_dz({args, outputs, dz, padded(args.N), sums}, call.stream);
  const bool input_gaps = inputs.columns.index != nullptr;
  if (needs_dx) backward.run(dx, partial_dx, input_gaps);
  if (needs_dw) backward.run(dw, partial_dw, input_gaps || outputs.index != nullptr);
  return workspace.used();
}

}  // namespace

i64 linear_backward_workspace(const LinearBackwardArgs& args, const DeviceCall& call) { return run(args, call, true); }

void linear_backward(const LinearBackwardArgs& args, const DeviceCall& call) { run(args, call, false); }

}  // namespace fusedrop::cuda
