// layer_inputs: see layer_inputs.hpp.
#include "cuda/layer_inputs.hpp"

namespace fusedrop::cuda {

i64 padded(i64 columns) { return round_up(columns, kOctet); }

Columns take_columns(Arena& arena, bool wanted, i64 n) {
  if (!wanted) return {};
  const i32* index = arena.take<i32>(n);
  return {index, arena.take<i32>(1)};
}

void list(const Columns& columns, const Mask& mask, const bool* known, i64 n, Stream stream) {
  if (columns.index != nullptr)
    list_columns(mask, known, n, const_cast<i32*>(columns.index), const_cast<i32*>(columns.count), stream);
}

void* take_matrix(Arena& arena, Dtype dtype, i64 rows, i64 columns) {
  return arena.take<char>(rows * padded(columns) * element_bytes(dtype));
}

LayerInputs prepare_inputs(Arena& arena, const LayerOperands& o, const Call& call) {
  const bool listed = drops_columns(o.mask) || call.known_inputs != nullptr;
  LayerInputs inputs{take_columns(arena, listed, o.K), o.x, o.w};
  void* x = o.wants_x && (listed || drops_elements(o.mask)) ? take_matrix(arena, o.dtype, o.M, o.K) : nullptr;
  void* w = listed && o.wants_w ? take_matrix(arena, o.dtype, o.N, o.K) : nullptr;
  if (arena.counting()) return inputs;
  list(inputs.columns, o.mask, call.known_inputs, o.K, call.stream);
  if (x != nullptr) {
    copy_columns({o.dtype, o.M, o.K, o.x, inputs.columns, o.mask, scale_of(o.mask), x, padded(o.K)}, call.stream);
    inputs.x = {x, padded(o.K), 1};
  }
  if (w != nullptr) {
    copy_columns({o.dtype, o.N, o.K, o.w, inputs.columns, Mask{}, 1.0f, w, padded(o.K)}, call.stream);
    inputs.w = {w, padded(o.K), 1};
  }
  return inputs;
}

}  // namespace fusedrop::cuda
