// stream: the type of a CUDA stream as DLPack passes it, without the header of the CUDA runtime.
#pragma once

namespace fusedrop::cuda {

using Stream = void*;

}  // namespace fusedrop::cuda
