// linear_avx512: the kernels compiled for avx512.
#define FD_ISA avx512
#define FD_ISA_NAME "avx512"
#define FD_ISA_LEVEL 2
#include "cpu/linear.inl"
