// passes: elementwise kernels before or after a product. All are launched on `stream`.
#pragma once

#include "devices/device_backend.hpp"

namespace fusedrop::cuda {

struct ColumnList {  // in device memory, ascending; null: all columns
  const i32* index = nullptr;
  const i32* count = nullptr;  // [1]
};

// Lists the columns of [0, n) that a unit mask keeps and whose byte in `active` is not 0 (null: all): index [n],
// count [1].
// A mask that is not a unit mask, or drops nothing, keeps all columns.
void list_columns(const Mask& mask, const bool* active, i64 n, i32* index, i32* count, Stream stream);

// Writes to [M, ld]: to[i, j] = keep(i, c) ? x[i, c] * scale : 0 with c = columns.index[j], for j < count. The mask is
// drawn if it drops single elements; a unit mask keeps every listed column. Elements past count are not written.
struct CopyArgs {
  Dtype dtype;
  i64 M, N;  // of x
  Matrix x;
  ColumnList columns;
  Mask mask;
  float scale;
  void* to;
  i64 ld;
};
void copy_columns(const CopyArgs& args, Stream stream);

// Writes y = residual + act(0) (dropout before the activation) or residual + 0, and z = 0, everywhere. Unit dropout
// leaves these values in the columns that no product writes.
void fill_dropped(const LinearForwardArgs& args, Stream stream);

// dz [M, ld] or null: dz[i, j] = keep ? act'(.) * (dy[i, c] * scale) : 0 for the listed columns c, in the type of dy.
// db [N] or null: the column sums of dz before it is rounded, 0 for columns that are not listed.
// partial [dz_chunks(M), N] float32, workspace of db: rows are added in chunks of a fixed height, then the chunks in a
// fixed order, so that every device gives the same bits.
struct DzArgs {
  // Reads M, N, dy, saved_activation, db, epilogue and dtype.
  LinearBackwardArgs call;
  ColumnList outputs;
  void* dz;
  i64 ld;
  float* partial;
};
i64 dz_chunks(i64 M);
void compute_dz(const DzArgs& args, Stream stream);

}  // namespace fusedrop::cuda
