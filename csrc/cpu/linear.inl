// linear.inl: all kernels of one instruction set, and the table the dispatcher picks from. Included by the stubs
// linear_<isa>.cpp, each compiled with its own flags.
#include "cpu/activation.inl"
#include "cpu/backend.hpp"
#include "cpu/dropout.inl"
#include "cpu/linear_backward.inl"
#include "cpu/linear_forward.inl"
#include "cpu/peak.inl"
#include "cpu/softmax.inl"
#include "cpu/update.inl"

namespace fusedrop::cpu::FD_ISA {
namespace {

void linear_forward(const LinearForwardArgs& args) {
  with_dtype(args.dtype, [&](auto s) { linear_forward_typed<decltype(s)>(args); });
}
void linear_backward(const LinearBackwardArgs& args) {
  with_dtype(args.dtype, [&](auto s) { linear_backward_typed<decltype(s)>(args); });
}

i64 fma_burst(Dtype dtype, i64 rounds) {
  return with_dtype(dtype, [&](auto s) { return fma_rounds<decltype(s)>(rounds); });
}

}  // namespace

extern const Backend backend;
const Backend backend = {FD_ISA_NAME, linear_forward,        linear_backward, dropout,  dropout_mask,
                         activation,  softmax_cross_entropy, update,          fma_burst};
}  // namespace fusedrop::cpu::FD_ISA
