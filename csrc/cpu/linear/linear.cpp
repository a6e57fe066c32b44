// linear: the fused linear layer of one instruction set. Every kernel source of csrc/cpu, like this one, is compiled
// once for each instruction set, with the flags of that set and with FD_ISA, FD_ISA_NAME and FD_ISA_LEVEL defined.
#include "cpu/linear/backward.inl"
#include "cpu/linear/forward.inl"
#include "cpu/linear/peak.inl"
#include "cpu/runtime/kernels.hpp"

namespace fusedrop::cpu::FD_ISA {

void linear_forward(const LinearForwardArgs& args) {
  with_dtype(args.dtype, [&](auto s) { linear_forward_typed<decltype(s)>(args); });
}
void linear_backward(const LinearBackwardArgs& args) {
  with_dtype(args.dtype, [&](auto s) { linear_backward_typed<decltype(s)>(args); });
}

i64 fma_burst(Dtype dtype, i64 rounds) {
  return with_dtype(dtype, [&](auto s) { return fma_rounds<decltype(s)>(rounds); });
}

}  // namespace fusedrop::cpu::FD_ISA
