// kernels: what one instruction set's object files define, and the table the dispatcher picks from. The only symbols that
// leave those files. No include guard: avx512_bf16 declares avx512's beside its own.
#include "cpu/backend.hpp"

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
