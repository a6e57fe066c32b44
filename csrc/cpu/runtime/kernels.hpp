// kernels: the functions that the object files of one instruction set define, and their table, from which the
// dispatcher chooses. These are the only symbols that those files export.
#pragma once

#include "cpu/runtime/backend.hpp"

namespace fusedrop::cpu::FD_ISA {

#define KERNEL(name, Args) void name(const Args& args);
#include "core/params/kernels.def"
i64 fma_burst(Dtype dtype, i64 rounds);

extern const Backend backend;

}  // namespace fusedrop::cpu::FD_ISA
