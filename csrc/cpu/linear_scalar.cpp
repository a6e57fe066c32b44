// linear_scalar: the kernels compiled for scalar.
#define FD_ISA scalar
#define FD_ISA_NAME "scalar"
#define FD_ISA_LEVEL 0
#include "cpu/linear.inl"
