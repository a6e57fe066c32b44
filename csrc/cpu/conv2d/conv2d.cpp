// conv2d: the fused convolution of one instruction set.
#include "cpu/conv2d/backward.inl"
#include "cpu/conv2d/forward.inl"
#include "cpu/runtime/kernels.hpp"

namespace fusedrop::cpu::FD_ISA {

void conv2d_forward(const Conv2dForwardArgs& args) {
  with_dtype(args.dtype, [&](auto s) { conv2d_forward_typed<decltype(s)>(args); });
}
void conv2d_backward(const Conv2dBackwardArgs& args) {
  with_dtype(args.dtype, [&](auto s) { conv2d_backward_typed<decltype(s)>(args); });
}

}  // namespace fusedrop::cpu::FD_ISA
