// operands: operands of a product C [M,N] = A [M,K] B [K,N], which pack themselves for cpu/gemm/loops.hpp. A product
// chooses its operands once per call. An operand serves one thread.
//
//   DenseA             x, with a mask of its own                      ActiveA             x, only its active columns
//   DenseB             any view of B                                  ActiveB             only the active columns of B
//   DroppedB           B with a mask of its own                       ActiveTransposedB   only the active rows of B
//
// Where indices are left out, a piece of the operand is first gathered in a buffer of the workspace.
#pragma once

#include "cpu/gemm/active_columns.hpp"
#include "cpu/gemm/workspace.hpp"
#if FD_BF16_DOT
#include "cpu/gemm/pack_bf16.hpp"
#endif

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class S>
struct DenseA {
  View<S> x;
  i64 K;
  const MaskBits& mask_bits;
  u32* words;

  void pack(Range rows, Range k_steps, acc_t<S>* dst, bool) const {
    const Range k = elements<S>(k_steps, K);
    Packer<S>::rows(x.at(rows.begin, k.begin), rows.size(), k.size(), dst);
    Packer<S>::drop_rows(mask_bits, {rows.begin, rows.size(), k.begin, k.size()}, dst, words);
  }
};

template <class S>
struct ActiveA {
  View<S> x;
  ActiveIndices inputs;
  acc_t<S> scale;  // of unit dropout of x
  GatherBuffer<S> buffer;

  void pack(Range rows, Range k_steps, acc_t<S>* dst, bool) const {
    const Range k = elements<S>(k_steps, inputs.count());
    for (i64 r = 0; r < rows.size(); ++r) {
      gather(x, inputs, {rows.begin + r, 1, k.begin, k.size()}, scale, buffer.data, buffer.row_room);
      Packer<S>::rows(View<S>(buffer.data, buffer.row_room, 1), 1, k.size(), dst + r * Packer<S>::LDA);
    }
  }
};

template <class S>
struct DenseB {
  View<S> b;  // [K,N]
  i64 K;

  void pack(Range k_steps, Range cols, acc_t<S>* dst) const {
    const Range k = elements<S>(k_steps, K);
    Packer<S>::panels(b.at(k.begin, cols.begin), k.size(), cols.size(), dst);
  }
};

template <class S>
struct DroppedB {
  DenseB<S> dense;
  const MaskBits& mask_bits;
  u32* words;

  void pack(Range k_steps, Range cols, acc_t<S>* dst) const {
    const Range k = elements<S>(k_steps, dense.K);
    dense.pack(k_steps, cols, dst);
    Packer<S>::drop_panels(mask_bits, {k.begin, k.size(), cols.begin, cols.size()}, dst, words);
  }
};

template <class S>
struct ActiveB {
  DenseB<S> dense;
  ActiveIndices columns;
  acc_t<S> scale;
  GatherBuffer<S> buffer;

  void pack(Range k_steps, Range cols, acc_t<S>* dst) const {
    const Range k = elements<S>(k_steps, dense.K);
    gather(dense.b, columns, {k.begin, k.size(), cols.begin, cols.size()}, scale, buffer.data, buffer.strip_room);
    Packer<S>::panels(View<S>(buffer.data, buffer.strip_room, 1), k.size(), cols.size(), dst);
  }
};

template <class S>
struct ActiveTransposedB {
  View<S> bt;  // Bᵀ: its columns are the rows of B
  ActiveIndices inputs;
  GatherBuffer<S> buffer;

  void pack(Range k_steps, Range cols, acc_t<S>* dst) const {
    const Range k = elements<S>(k_steps, inputs.count());
    gather(bt, inputs, {cols.begin, cols.size(), k.begin, k.size()}, acc_t<S>(1), buffer.data, buffer.row_room);
    Packer<S>::panels(View<S>(buffer.data, 1, buffer.row_room), k.size(), cols.size(), dst);
  }
};

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
