// linear.inl: all kernels of one instruction set, and the table the dispatcher picks from. Included by the stubs
// linear_<isa>.cpp, each compiled with its own flags.
#include "cpu/activation.inl"
#include "cpu/backend.hpp"
#include "cpu/dropout.inl"
#include "cpu/linear_backward.inl"
#include "cpu/linear_forward.inl"
#include "cpu/peak.inl"

namespace fusedrop::cpu::FD_ISA {
extern const Backend backend;
const Backend backend = {FD_ISA_NAME, linear_forward, linear_backward, dropout, dropout_mask, activation, fma_burst};
}  // namespace fusedrop::cpu::FD_ISA
