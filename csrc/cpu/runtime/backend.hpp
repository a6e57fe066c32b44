// backend: the table of kernels of one instruction set.
#pragma once

#include "core/dtypes.hpp"

namespace fusedrop {

#define KERNEL(name, Args) struct Args;
#include "core/params/kernels.def"

namespace cpu {

struct Backend {
  const char* name;  // of the instruction set
#define KERNEL(name, Args) void (*name)(const Args& args);
#include "core/params/kernels.def"
  i64 (*fma_burst)(Dtype dtype, i64 rounds);  // returns the number of floating-point operations it did
};

}  // namespace cpu
}  // namespace fusedrop
