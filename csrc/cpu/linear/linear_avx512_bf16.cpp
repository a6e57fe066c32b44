// linear_avx512_bf16: AVX-512 with AVX512_BF16. Products of bfloat16 multiply pairs; other kernels are those of avx512.
#define FD_BF16_DOT 1
#undef FD_ISA
#define FD_ISA avx512
#include "cpu/runtime/kernels.hpp"
#undef FD_ISA
#define FD_ISA avx512_bf16
#include "cpu/linear/backward.inl"
#include "cpu/linear/forward.inl"
#include "cpu/linear/peak.inl"
#include "cpu/runtime/kernels.hpp"

namespace fusedrop::cpu::avx512_bf16 {

void linear_forward(const LinearForwardArgs& args) {
  args.dtype == Dtype::bfloat16 ? linear_forward_typed<bfloat16>(args) : avx512::linear_forward(args);
}
void linear_backward(const LinearBackwardArgs& args) {
  args.dtype == Dtype::bfloat16 ? linear_backward_typed<bfloat16>(args) : avx512::linear_backward(args);
}
i64 fma_burst(Dtype dtype, i64 rounds) {
  return dtype == Dtype::bfloat16 ? fma_rounds<bfloat16>(rounds) : avx512::fma_burst(dtype, rounds);
}

const Backend backend = {FD_ISA_NAME,
                         linear_forward,
                         linear_backward,
                         avx512::conv2d_forward,
                         avx512::conv2d_backward,
                         avx512::dropout,
                         avx512::dropout_mask,
                         avx512::activation,
                         avx512::softmax_cross_entropy,
                         avx512::update,
                         avx512::pool_forward,
                         avx512::pool_backward,
                         avx512::lstm_forward,
                         avx512::lstm_backward,
                         fma_burst};

}  // namespace fusedrop::cpu::avx512_bf16
