// passes: kernels over single elements, on the way into a product or out of it. Launched on `stream`, like all kernels.
#pragma once

#include "core/args.hpp"
#include "cuda/stream.hpp"

namespace fusedrop::cuda {

struct Columns {  // a list in device memory, ascending; null: every column
  const i32* index = nullptr;
  const i32* count = nullptr;  // [1]
};

// The columns of n that a unit mask keeps and `known` (a byte a column, or null) allows: index [n] and count [1].
// A mask that is not unit, or drops nothing, keeps all.
void list_columns(const Mask& mask, const bool* known, i64 n, i32* index, i32* count, Stream stream);

// to [M, ld] row by row: to[i, j] = keep(i, c) ? x[i, c] * scale : 0 with c = columns.index[j], for j < count; the mask is
// drawn where it drops single elements, a unit mask keeps all that are listed. What lies past count is left alone.
struct CopyArgs {
  Dtype dtype;
  i64 M, N;  // of x
  Matrix x;
  Columns columns;
  Mask mask;
  float scale;
  void* to;
  i64 ld;
};
void copy_columns(const CopyArgs& args, Stream stream);

// y = residual + act(0) or 0, z = 0, everywhere: what unit dropout leaves in the columns that no product reaches.
void fill_dropped(const LinearForwardArgs& args, Stream stream);

// dz [M, ld]: dz[i, j] = keep ? act'(.) * (dy[i, c] * scale) : 0 for the listed columns c, in the type of dy; null: not
// stored. db [N]: the sums of dz's columns before they are rounded, 0 where a column is not listed; null: not wanted.
// partial [gradient_partials(M), N] float32 is db's room: rows are summed in chunks of a fixed height, then the chunks in
// order, so that every device gets the same bits.
struct GradientArgs {
  LinearBackwardArgs call;  // M, N, dy, kept, saved, db, activation, before, mask, dtype are read
  Columns outputs;
  void* dz;
  i64 ld;
  float* partial;
};
i64 gradient_partials(i64 M);
void gradient(const GradientArgs& args, Stream stream);

}  // namespace fusedrop::cuda
