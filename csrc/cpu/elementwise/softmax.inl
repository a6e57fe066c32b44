// softmax: the cross-entropy of softmax(z), for classes or for rows of probabilities, and its gradient
//   z, dz [M,N] C order | labels [M], or target [M,N] C order | row_loss [M] in float64
//   p = exp(z - max z) / total    dz = (p - t) / M    row_loss = sum_j t_j (log total - (z_j - max z))
// Numerics  the total of a row is computed as 16 partial sums, which are then added by halves: the same bits for every
//           instruction set and any number of threads
// Limits    N >= 1; z = -Inf in a class with target probability 0 adds 0 to the loss; re-entrant; no allocation
#pragma once

#include <cmath>

#include "core/math.hpp"
#include "core/params/elementwise.hpp"
#include "cpu/runtime/threads.hpp"
#include "cpu/simd/vec.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

constexpr i64 kRunning = 16;      // partial sums, or partial maxima, of a row
constexpr i64 kSoftmaxWork = 96;  // in multiply-adds per element, for threads_for

// Calls visit(c, n, block) for blocks of 16 elements. The last block is padded with z[0], which does not change the
// maximum. (Padding with -Inf would save the mask of the total, but exp(-Inf) underflows, and the loop would take three
// times as long.)
template <class S, class Visit>
FD_FN void visit_blocks(const S* z, i64 N, Visit visit) {
  i64 c = 0;
  for (; c + kRunning <= N; c += kRunning) visit(c, kRunning, z + c);
  if (c == N) return;
  S padded[kRunning];
  for (i64 j = 0; j < kRunning; ++j) padded[j] = z[c + j < N ? c + j : 0];
  visit(c, N - c, padded);
}

// Combines the sixteen values of a row into one, by halves.
template <class T, class Combine>
FD_FN T combined(T (&values)[kRunning], Combine combine) {
#pragma GCC unroll 4
  for (i64 width = kRunning / 2; width > 0; width /= 2)
#pragma GCC unroll 8
    for (i64 j = 0; j < width; ++j) values[j] = combine(values[j], values[j + width]);
  return values[0];
}

// The maximum may miss a NaN. That is correct: the total then becomes NaN.
template <class S, class T = acc_t<S>>
T row_maximum(const S* z, i64 N) {
  using V = Vec<T>;
  T maxima[kRunning];
  for (T& m : maxima) m = widen(z[0]);
  visit_blocks(z, N, [&](i64, i64, const S* block) {
    for (i64 j = 0; j < kRunning; j += V::W) max(V::load(block + j), V::load(maxima + j)).store(maxima + j);
  });
  return combined(maxima, [](T a, T b) { return fusedrop::max(a, b); });
}

template <class S, class T = acc_t<S>>
T row_total(const S* z, i64 N, T row_max) {
  using V = Vec<T>;
  T sums[kRunning] = {};
  visit_blocks(z, N, [&](i64, i64 n, const S* block) {
    const u32 real = (u32{1} << n) - 1;
    for (i64 j = 0; j < kRunning; j += V::W) {
      const V e = exp(V::load(block + j) - V(row_max));
      (V::load(sums + j) + select(V::lanes(real >> j), e, V(T(0)))).store(sums + j);
    }
  });
  return combined(sums, [](T a, T b) { return a + b; });
}

template <class S, class T = acc_t<S>>
void row_gradient(const SoftmaxArgs& args, i64 row, const S* z, T row_max, T total, S* dz) {
  using V = Vec<T>;
  const S* target = args.target == nullptr ? nullptr : static_cast<const S*>(args.target) + row * args.N;
  const i64 label = args.labels == nullptr ? -1 : args.labels[row];
  const V rows(static_cast<T>(args.M));
  visit_blocks(z, args.N, [&](i64 c, i64 n, const S* block) {
    T t[kRunning] = {};
    if (label >= c && label < c + n) t[label - c] = T(1);
    for (i64 j = 0; target != nullptr && j < n; ++j) t[j] = widen(target[c + j]);
    S out[kRunning];
    S* to = n == kRunning ? dz + c : out;
    for (i64 j = 0; j < kRunning; j += V::W)
      ((exp(V::load(block + j) - V(row_max)) / V(total) - V::load(t + j)) / rows).store(to + j);
    for (i64 j = 0; to == out && j < n; ++j) dz[c + j] = out[j];
  });
}

template <class S, class T = acc_t<S>>
double loss_of_row(const SoftmaxArgs& args, i64 row, const S* z, T row_max, T total) {
  const double log_total = std::log(static_cast<double>(total));
  const auto cost = [&](i64 j) { return log_total - static_cast<double>(widen(z[j]) - row_max); };
  if (args.labels != nullptr) return cost(args.labels[row]);
  const S* target = static_cast<const S*>(args.target) + row * args.N;
  double sum = 0;
  for (i64 j = 0; j < args.N; ++j)
    if (const T t = widen(target[j]); t > T(0)) sum += static_cast<double>(t) * cost(j);
  return total == total ? sum : static_cast<double>(total);  // NaN, even if no probability is above 0
}

template <class S>
void softmax_rows(const SoftmaxArgs& args, Range rows) {
  for (i64 i = rows.begin; i < rows.end; ++i) {
    const S* z = static_cast<const S*>(args.z) + i * args.N;
    const auto row_max = row_maximum(z, args.N), total = row_total(z, args.N, row_max);
    args.row_loss[i] = loss_of_row(args, i, z, row_max, total);
    row_gradient(args, i, z, row_max, total, static_cast<S*>(args.dz) + i * args.N);
  }
}

}  // namespace

void softmax_cross_entropy(const SoftmaxArgs& args) {
  const int threads = threads_for(args.M * args.N * kSoftmaxWork);
  parallel_for(threads, [&](int thread) {
    const Range rows{args.M * thread / threads, args.M * (thread + 1) / threads};
    with_dtype(args.dtype, [&](auto s) { softmax_rows<decltype(s)>(args, rows); });
  });
}

}  // namespace fusedrop::cpu::FD_ISA
