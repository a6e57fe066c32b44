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

// In the table, a kernel of the list is the one above, or that of avx512 where this file defines none.
using namespace avx512;
extern const Backend backend;
const Backend backend = {
    FD_ISA_NAME,
#define KERNEL(name, Args) name,
#include "core/params/kernels.def"
    fma_burst,
};

}  // namespace fusedrop::cpu::avx512_bf16
