// update: one optimizer step over all parameters of a network, in place, in one parallel region
//   a part: value, grad of n contiguous elements; first, second: the state of the rule in the accumulator type, or null
// Work      reads value, grad and state once, writes value and state once
// Threads   thread t takes the t-th piece of every part: mostly what it wrote as dw and still has in its cache
// Limits    re-entrant; no allocation
#pragma once

#include "core/params/optim.hpp"
#include "core/update.hpp"
#include "cpu/runtime/threads.hpp"
#include "cpu/simd/vec.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

constexpr i64 kUpdateWork = 16;  // in multiply-adds per element, for threads_for

// Updates one vector of elements. `penalty`, and states that the rule does not have, may be null.
template <class S, class Rule, class T = acc_t<S>>
FD_FN void update_vector(const Rule& rule, const Penalty<T>* penalty, S* value, const S* grad, T* first, T* second) {
  using V = Vec<T>;
  const V w = V::load(value);
  V g = V::load(grad), m, v;
  if (Rule::states > 0) m = V::load(first);
  if (Rule::states > 1) v = V::load(second);
  if (penalty != nullptr) g = penalty->add_to(g, w);
  rule.step(w, g, m, v).store(value);
  if (Rule::states > 0) m.store(first);
  if (Rule::states > 1) v.store(second);
}

template <class E>
FD_FN void copy_elements(const E* src, i64 n, E* dst) {
  for (i64 c = 0; c < n; ++c) dst[c] = src[c];
}

template <class S, class Rule, class T = acc_t<S>>
void update_range(const Rule& rule, const UpdateArgs& args, const UpdatePart& part, i64 begin, i64 end) {
  constexpr i64 W = Vec<T>::W;
  const Penalty<T> factors{static_cast<T>(args.l1), static_cast<T>(args.l2)};
  const Penalty<T>* penalty = part.penalized && (args.l1 != 0 || args.l2 != 0) ? &factors : nullptr;
  S* value = static_cast<S*>(part.value) + begin;
  const S* grad = static_cast<const S*>(part.grad) + begin;
  T* first = Rule::states > 0 ? static_cast<T*>(part.first) + begin : nullptr;
  T* second = Rule::states > 1 ? static_cast<T*>(part.second) + begin : nullptr;
  i64 i = 0;
  for (; i + W <= end - begin; i += W)
    update_vector(rule, penalty, value + i, grad + i, Rule::states > 0 ? first + i : nullptr,
                  Rule::states > 1 ? second + i : nullptr);
  const i64 n = end - begin - i;
  if (n == 0) return;
  S w[W] = {}, g[W] = {};  // the tail is padded to a vector
  T m[W] = {}, v[W] = {};
  copy_elements(value + i, n, w);
  copy_elements(grad + i, n, g);
  if (Rule::states > 0) copy_elements(first + i, n, m);
  if (Rule::states > 1) copy_elements(second + i, n, v);
  update_vector(rule, penalty, w, g, m, v);
  copy_elements(w, n, value + i);
  if (Rule::states > 0) copy_elements(m, n, first + i);
  if (Rule::states > 1) copy_elements(v, n, second + i);
}

template <class S, class T = acc_t<S>>
void update_part(const UpdateArgs& args, const UpdatePart& part, i64 begin, i64 end) {
  const auto t = [](double value) { return static_cast<T>(value); };
  if (args.rule == UpdateRule::adam) {
    const Adam<T> adam{t(args.lr),        t(args.beta1), t(1 - args.beta1), t(args.beta2),
                       t(1 - args.beta2), t(args.root),  t(args.eps)};
    return update_range<S>(adam, args, part, begin, end);
  }
  if (args.beta1 == 0) return update_range<S>(Sgd<T>{t(args.lr)}, args, part, begin, end);
  update_range<S>(Momentum<T>{t(args.lr), t(args.beta1), args.nesterov}, args, part, begin, end);
}

}  // namespace

void update(const UpdateArgs& args) {
  i64 total = 0;
  for (i64 i = 0; i < args.count; ++i) total += args.parts[i].n;
  const int threads = threads_for(total * kUpdateWork);
  parallel_for(threads, [&](int thread) {
    for (i64 i = 0; i < args.count; ++i) {
      const UpdatePart& part = args.parts[i];
      const i64 piece = round_up(divide_up(part.n, threads), 32);  // whole cache lines
      const i64 begin = minimum(piece * thread, part.n);
      const i64 end = minimum(begin + piece, part.n);
      with_dtype(part.dtype, [&](auto s) { update_part<decltype(s)>(args, part, begin, end); });
    }
  });
}

}  // namespace fusedrop::cpu::FD_ISA
