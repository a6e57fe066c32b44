// inputs: see inputs.hpp.
#include "cuda/linear/inputs.hpp"

namespace fusedrop::cuda {

i64 padded(i64 columns) { return round_up(columns, kVec8); }

ColumnList take_list(Workspace& workspace, bool listed, i64 n) {
  if (!listed) return {};
  const i32* index = workspace.take<i32>(n);
  return {index, workspace.take<i32>(1)};
}

void fill_list(const ColumnList& columns, const Mask& mask, const bool* active, i64 n, Stream stream) {
  if (columns.index != nullptr)
    list_columns(mask, active, n, const_cast<i32*>(columns.index), const_cast<i32*>(columns.count), stream);
}

void* take_matrix(Workspace& workspace, Dtype dtype, i64 rows, i64 columns) {
  return workspace.take<char>(rows * padded(columns) * element_bytes(dtype));
}

LayerInputs prepare_inputs(Workspace& workspace, const LayerOperands& o, const DeviceCall& call) {
  const bool listed = drops_columns(o.mask) || call.active_inputs != nullptr;
  LayerInputs inputs{take_list(workspace, listed, o.K), o.x, o.w};
  void* x = o.uses_x && (listed || drops_elements(o.mask)) ? take_matrix(workspace, o.dtype, o.M, o.K) : nullptr;
  void* w = listed && o.uses_w ? take_matrix(workspace, o.dtype, o.N, o.K) : nullptr;
  if (workspace.counting()) return inputs;
  fill_list(inputs.columns, o.mask, call.active_inputs, o.K, call.stream);
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
