// table: the table of kernels of one instruction set, for the dispatcher.
#include "cpu/runtime/kernels.hpp"

namespace fusedrop::cpu::FD_ISA {

const Backend backend = {
    FD_ISA_NAME,
#define KERNEL(name, Args) name,
#include "core/params/kernels.def"
    fma_burst,
};

}  // namespace fusedrop::cpu::FD_ISA
