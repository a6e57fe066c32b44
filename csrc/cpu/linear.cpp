// linear: the fused layer and the elementwise kernels of one instruction set. Like every topic of this folder that
// kernels.hpp lists, compiled once for each of them, with its flags and with FD_ISA, FD_ISA_NAME and FD_ISA_LEVEL.
#include "cpu/activation.inl"
#include "cpu/dropout.inl"
#include "cpu/kernels.hpp"
#include "cpu/linear_backward.inl"
#include "cpu/linear_forward.inl"
#include "cpu/peak.inl"
#include "cpu/softmax.inl"
#include "cpu/update.inl"

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
