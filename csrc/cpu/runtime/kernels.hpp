// kernels: the functions that the object files of one instruction set define, and their table, from which the
// dispatcher chooses. These are the only symbols that those files export. The header has no include guard: avx512_bf16
// includes it twice, for the functions of avx512 and for its own.
#include "cpu/runtime/backend.hpp"

namespace fusedrop::cpu::FD_ISA {

void linear_forward(const LinearForwardArgs& args);
void linear_backward(const LinearBackwardArgs& args);
void conv2d_forward(const Conv2dForwardArgs& args);
void conv2d_backward(const Conv2dBackwardArgs& args);
void dropout(const DropoutArgs& args);
void dropout_mask(const DropoutMaskArgs& args);
void activation(const ActivationArgs& args);
void softmax_cross_entropy(const SoftmaxArgs& args);
void update(const UpdateArgs& args);
void pool_forward(const PoolForwardArgs& args);
void pool_backward(const PoolBackwardArgs& args);
void lstm_forward(const LstmForwardArgs& args);
void lstm_backward(const LstmBackwardArgs& args);
i64 fma_burst(Dtype dtype, i64 rounds);

extern const Backend backend;

}  // namespace fusedrop::cpu::FD_ISA
