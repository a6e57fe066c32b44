// dropout: y = keep ? x * scale : 0, and the mask alone, for arrays viewed as [M,N]
//   x [M,N], any strides | y [M,N] | keep [M,N] bool; mask as in linear_forward
// Work      one Philox call for 8 elements; 8MN bytes for float32
// Limits    any M, N >= 0; re-entrant; no allocation
#pragma once

#include "core/params/elementwise.hpp"
#include "cpu/gemm/pack.hpp"
#include "cpu/runtime/threads.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

constexpr i64 kWordsAtOnce = 32;     // keep words drawn at a time: 1024 columns of a row
constexpr i64 kWorkPerElement = 24;  // in multiply-adds, for threads_for

// Calls visit(i, j, cols, words) for pieces of rows. Together the pieces cover the given rows.
template <class Visit>
FD_FN void visit_rows(const MaskBits& mask_bits, Range rows, i64 N, Visit visit) {
  u32 words[kWordsAtOnce + 4];
  for (i64 i = rows.begin; i < rows.end; ++i)
    for (i64 j = 0; j < N; j += kWordsAtOnce * kGroup) {
      const i64 cols = minimum(N - j, kWordsAtOnce * kGroup);
      mask_bits.row(i, j, divide_up(cols, kGroup), words);
      visit(i, j, cols, words);
    }
}

template <class S>
void drop_row(const DropoutArgs& args, i64 i, i64 j, i64 cols, const u32* words) {
  using T = acc_t<S>;
  using V = Vec<T>;
  const View<S> x = View<S>(args.x).at(i, j);
  S* y = static_cast<S*>(args.y) + i * args.N + j;
  const T scale = static_cast<T>(args.scale);
  i64 c = 0;
  if (x.cs == 1)
    for (; c + V::W <= cols; c += V::W)
      select(V::lanes(words[c / kGroup] >> (c % kGroup)), V::load(x.p + c) * V(scale), V(T(0))).store(y + c);
  for (; c < cols; ++c) narrow((words[c / kGroup] >> (c % kGroup)) & 1 ? widen(x(0, c)) * scale : T(0), y[c]);
}

template <class Args, void (*rows_of)(const Args&, const MaskBits&, Range)>
void run_over_rows(const Args& args) {
  const MaskBits mask_bits(args.mask);
  const int threads = threads_for(args.M * args.N * kWorkPerElement);
  const i64 share = divide_up(args.M, threads);
  parallel_for(threads, [&](int thread) {
    const i64 begin = minimum(thread * share, args.M);
    rows_of(args, mask_bits, {begin, minimum(begin + share, args.M)});
  });
}

void dropout_rows(const DropoutArgs& args, const MaskBits& mask_bits, Range rows) {
  visit_rows(mask_bits, rows, args.N, [&](i64 i, i64 j, i64 cols, const u32* words) {
    with_dtype(args.dtype, [&](auto s) { drop_row<decltype(s)>(args, i, j, cols, words); });
  });
}

void mask_rows(const DropoutMaskArgs& args, const MaskBits& mask_bits, Range rows) {
  visit_rows(mask_bits, rows, args.N, [&](i64 i, i64 j, i64 cols, const u32* words) {
    bool* keep = args.keep + i * args.N + j;
    for (i64 c = 0; c < cols; ++c) keep[c] = (words[c / kGroup] >> (c % kGroup)) & 1;
  });
}

}  // namespace

void dropout(const DropoutArgs& args) { run_over_rows<DropoutArgs, dropout_rows>(args); }
void dropout_mask(const DropoutMaskArgs& args) { run_over_rows<DropoutMaskArgs, mask_rows>(args); }

}  // namespace fusedrop::cpu::FD_ISA
