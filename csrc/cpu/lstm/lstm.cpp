// lstm: the LSTM layer of one instruction set.
#include "cpu/lstm/backward.inl"
#include "cpu/lstm/forward.inl"
#include "cpu/runtime/kernels.hpp"

namespace fusedrop::cpu::FD_ISA {

void lstm_forward(const LstmForwardArgs& args) {
  args.dtype == Dtype::float64 ? lstm_forward_typed<double>(args) : lstm_forward_typed<float>(args);
}
void lstm_backward(const LstmBackwardArgs& args) {
  args.dtype == Dtype::float64 ? lstm_backward_typed<double>(args) : lstm_backward_typed<float>(args);
}

}  // namespace fusedrop::cpu::FD_ISA
