// linear_backward: dz = dy * mask * act', dx = dz w, dw = dzᵀ x, db = sum_i dz
//   dy [M,N] any strides | x [M,K] | w [N,K] | kept [M,N]: y, z or nothing | dx [M,K] | dw [N,K] | db [N], each or null
//   unit dropout: dz has the kept columns alone, so both products shrink; rows of dw that are not kept are 0
// Work      4MNK flop; dz is formed once, in the pass that also sums db, in the type of dy
// Masks     drawn again from their names: nothing random is stored
// Limits    as forward
#include "cuda/launch.hpp"
#include "cuda/layer_inputs.hpp"

namespace fusedrop::cuda {
namespace {

// What both products share.
struct Backward {
  const LinearBackwardArgs& args;
  const Call& call;
  Columns outputs;
  LayerInputs inputs;
  Matrix dz;  // [M, count of outputs]

  // dx [M,K] = dz [M,N] w [N,K]
  Gemm input_gradient() const {
    Gemm g = product(args.M, args.K, args.N);
    g.n_count = inputs.columns.count, g.k_count = outputs.count;
    g.a = {dz.data, dz.row_stride, dz.col_stride};
    g.b = {inputs.w.data, inputs.w.col_stride, inputs.w.row_stride, nullptr, outputs.index};
    g.finish.y = args.dx;
    g.finish.cols = inputs.columns.index;
    g.finish.mask = mask_of_elements(args.input_mask), g.finish.scale = scale_of(args.input_mask);
    arrange(g);
    return g;
  }

  // dw [N,K] = dzᵀ [N,M] x [M,K]
  Gemm weight_gradient() const {
    Gemm g = product(args.N, args.K, args.M);
    g.m_count = outputs.count, g.n_count = inputs.columns.count;
    g.a = {dz.data, dz.col_stride, dz.row_stride};
    g.b = {inputs.x.data, inputs.x.col_stride, inputs.x.row_stride};
    g.finish.y = args.dw;
    g.finish.rows = outputs.index, g.finish.cols = inputs.columns.index;
    arrange(g);
    return g;
  }

  Gemm product(i64 M, i64 N, i64 K) const {
    Gemm g{};
    g.dtype = args.dtype;
    g.tf32 = call.tf32;
    g.M = M, g.N = N, g.K = K;
    g.finish.ld = args.K;
    return g;
  }

  void run(Gemm g, float* partial, bool has_gaps) const {
    if (has_gaps) fill_zero(g.finish.y, g.M * g.N * element_bytes(g.dtype), call.stream);
    g.partial = partial;
    multiply(g, call.stream);
  }
};

i64 run(const LinearBackwardArgs& args, const Call& call, bool counting) {
  const bool wants_dx = args.dx != nullptr, wants_dw = args.dw != nullptr;
  Arena arena(call.workspace, counting);
  const Columns outputs = take_columns(arena, drops_columns(args.mask), args.N);
  const LayerInputs inputs = prepare_inputs(
      arena, {args.dtype, args.M, args.N, args.K, args.x, args.w, args.input_mask, wants_dw, wants_dx}, call);
  // Where nothing changes dy it is dz, and the pass only sums.
  const bool is_dy = args.activation == Activation::identity && !drops(args.mask);
  void* dz = is_dy || !(wants_dx || wants_dw) ? nullptr : take_matrix(arena, args.dtype, args.M, args.N);
  float* sums = args.db == nullptr ? nullptr : arena.take<float>(gradient_partials(args.M) * args.N);
  const Backward backward{args, call, outputs, inputs, is_dy ? args.dy : Matrix{dz, padded(args.N), 1}};
  const Gemm dx = backward.input_gradient(), dw = backward.weight_gradient();
  float* partial_dx = arena.take<float>(wants_dx ? partial_floats(dx) : 0);
  float* partial_dw = arena.take<float>(wants_dw ? partial_floats(dw) : 0);
  if (arena.counting()) return arena.used();

  list(outputs, args.mask, nullptr, args.N, call.stream);
  if (dz != nullptr || args.db != nullptr) gradient({args, outputs, dz, padded(args.N), sums}, call.stream);
  const bool input_gaps = inputs.columns.index != nullptr;
  if (wants_dx) backward.run(dx, partial_dx, input_gaps);
  if (wants_dw) backward.run(dw, partial_dw, input_gaps || outputs.index != nullptr);
  return arena.used();
}

}  // namespace

i64 linear_backward_workspace(const LinearBackwardArgs& args, const Call& call) { return run(args, call, true); }

void linear_backward(const LinearBackwardArgs& args, const Call& call) { run(args, call, false); }

}  // namespace fusedrop::cuda
