// AVX-512 with AVX512_BF16: products of bfloat16 in pairs. Everything else is plain AVX-512's.
#define FD_ISA avx512_bf16
#define FD_ISA_NAME "avx512_bf16"
#define FD_ISA_LEVEL 2
#define FD_BF16_DOT 1
#include "cpu/backend.hpp"
#include "cpu/linear_backward.inl"
#include "cpu/linear_forward.inl"
#include "cpu/peak.inl"

namespace fusedrop::cpu {

namespace avx512 {
extern const Backend backend;
}

namespace avx512_bf16 {
namespace {

void linear_forward(const LinearForwardArgs& args) {
  args.dtype == Dtype::bfloat16 ? linear_forward_typed<bfloat16>(args) : avx512::backend.linear_forward(args);
}
void linear_backward(const LinearBackwardArgs& args) {
  args.dtype == Dtype::bfloat16 ? linear_backward_typed<bfloat16>(args) : avx512::backend.linear_backward(args);
}
void dropout(const DropoutArgs& args) { avx512::backend.dropout(args); }
void dropout_mask(const DropoutMaskArgs& args) { avx512::backend.dropout_mask(args); }
void activation(const ActivationArgs& args) { avx512::backend.activation(args); }
void softmax_cross_entropy(const SoftmaxArgs& args) { avx512::backend.softmax_cross_entropy(args); }
void update(const UpdateArgs& args) { avx512::backend.update(args); }
i64 fma_burst(Dtype dtype, i64 rounds) {
  return dtype == Dtype::bfloat16 ? fma_rounds<bfloat16>(rounds) : avx512::backend.fma_burst(dtype, rounds);
}

}  // namespace

extern const Backend backend;
const Backend backend = {FD_ISA_NAME, linear_forward,        linear_backward, dropout,  dropout_mask,
                         activation,  softmax_cross_entropy, update,          fma_burst};

}  // namespace avx512_bf16
}  // namespace fusedrop::cpu
