// layer_inputs: x and w as both directions of a linear layer multiply them: as they are, or copied once where columns
// are left out or single elements dropped.
#pragma once

#include "cuda/arena.hpp"
#include "cuda/gemm.hpp"
#include "cuda/kernels.hpp"

namespace fusedrop::cuda {

inline bool drops(const Mask& mask) { return mask.threshold != 0; }
inline bool drops_columns(const Mask& mask) { return mask.unit && drops(mask); }
inline bool drops_elements(const Mask& mask) { return !mask.unit && drops(mask); }
inline float scale_of(const Mask& mask) { return static_cast<float>(keep_scale(mask.threshold)); }

// A unit mask has done its work in a list; what is left of it is the scale.
inline Mask mask_of_elements(const Mask& mask) { return drops_elements(mask) ? mask : Mask{}; }

i64 padded(i64 columns);  // of a copy: its rows are a multiple of 16 bytes apart
void* take_matrix(Arena& arena, Dtype dtype, i64 rows, i64 columns);  // room for such a copy

// Room for a list of n columns, which `list` fills; where none is wanted, the list of all.
Columns take_columns(Arena& arena, bool wanted, i64 n);
void list(const Columns& columns, const Mask& mask, const bool* known, i64 n, Stream stream);

struct LayerInputs {
  Columns columns;  // of x and w that count
  Matrix x, w;      // without the others; a copy of x has the scale in it
};

struct LayerOperands {
  Dtype dtype;
  i64 M, N, K;
  Matrix x, w;
  Mask mask;  // of x
  bool wants_x, wants_w;  // whether they take part at all
};
// Launches the copies, unless the arena only counts.
LayerInputs prepare_inputs(Arena& arena, const LayerOperands& operands, const Call& call);

}  // namespace fusedrop::cuda
