// linear_avx2: the kernels compiled for avx2.
#define FD_ISA avx2
#define FD_ISA_NAME "avx2"
#define FD_ISA_LEVEL 1
#include "cpu/linear.inl"
