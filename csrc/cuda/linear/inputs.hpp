// inputs: x and w as the products of forward and backward take them: as they are, or copied once if columns are left
// out or single elements are dropped.
#pragma once

#include "cuda/gemm/loops.hpp"
#include "cuda/runtime/kernels.hpp"
#include "cuda/runtime/workspace.hpp"

namespace fusedrop::cuda {

inline bool drops(const Mask& mask) { return mask.threshold != 0; }
inline bool drops_columns(const Mask& mask) { return mask.unit && drops(mask); }
inline bool drops_elements(const Mask& mask) { return !mask.unit && drops(mask); }
inline float scale_of(const Mask& mask) { return static_cast<float>(keep_scale(mask.threshold)); }

// The mask that the epilogue draws. A unit mask is applied by a list, and only its scale is left for the epilogue.
inline Mask mask_of_elements(const Mask& mask) { return drops_elements(mask) ? mask : Mask{}; }

i64 padded(i64 columns);  // row stride of a copy, a multiple of 16 bytes
void* take_matrix(Workspace& workspace, Dtype dtype, i64 rows, i64 columns);  // room for a copy

// Room for a list of at most n columns, which fill_list() fills. If `listed` is false, the result stands for all
// columns.
ColumnList take_list(Workspace& workspace, bool listed, i64 n);
void fill_list(const ColumnList& columns, const Mask& mask, const bool* active, i64 n, Stream stream);

struct LayerInputs {
  ColumnList columns;  // the active columns of x and w
  Matrix x, w;         // the active columns only; a copy of x is already scaled
};

struct LayerOperands {
  Dtype dtype;
  i64 M, N, K;
  Matrix x, w;
  Mask mask;  // of x
  bool uses_x, uses_w;  // whether the call multiplies x, and w
};
// Launches the copies, unless the workspace only counts bytes.
LayerInputs prepare_inputs(Workspace& workspace, const LayerOperands& operands, const DeviceCall& call);

}  // namespace fusedrop::cuda
