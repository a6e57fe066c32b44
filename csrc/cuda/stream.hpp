// stream: a cudaStream_t without the runtime's header, as DLPack hands it over.
#pragma once

namespace fusedrop::cuda {

using Stream = void*;

}  // namespace fusedrop::cuda
