// table: the table of kernels of one instruction set, for the dispatcher.
#include "cpu/runtime/kernels.hpp"

namespace fusedrop::cpu::FD_ISA {

const Backend backend = {FD_ISA_NAME,  linear_forward, linear_backward, conv2d_forward,        conv2d_backward,
                         dropout,      dropout_mask,   activation,      softmax_cross_entropy, update,
                         pool_forward, pool_backward,  lstm_forward,    lstm_backward,         fma_burst};

}  // namespace fusedrop::cpu::FD_ISA
