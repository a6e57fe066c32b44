// conv2d: the fused convolution. Compiled once for each instruction set, see kernels.hpp.
#include "cpu/conv2d_backward.inl"
#include "cpu/conv2d_forward.inl"
#include "cpu/kernels.hpp"

namespace fusedrop::cpu::FD_ISA {

void conv2d_forward(const Conv2dForwardArgs& args) {
  with_dtype(args.dtype, [&](auto s) { conv2d_forward_typed<decltype(s)>(args); });
}
void conv2d_backward(const Conv2dBackwardArgs& args) {
  with_dtype(args.dtype, [&](auto s) { conv2d_backward_typed<decltype(s)>(args); });
}

}  // namespace fusedrop::cpu::FD_ISA
