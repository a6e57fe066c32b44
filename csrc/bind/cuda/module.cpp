// module: fusedrop._cuda, the functions of fusedrop._core for arrays on a GPU.
#include "bind/cuda/register.hpp"
#include "cuda/runtime/kernels.hpp"

PYBIND11_MODULE(_cuda, m) {
  m.doc() =
      "CUDA kernels of fusedrop. The public interface is the package fusedrop, which passes on arrays in a GPU's "
      "memory.";
  pybind11::module_::import("fusedrop._core");  // it registers Philox
  m.def("state", &fusedrop::cuda::state, "The device found and what this was compiled for, or why none works.");
  m.def("emulated", &fusedrop::cuda::emulated, "Whether kernels run on the host, in arrays of the CPU: for tests.");
  fusedrop::bind::cuda::register_own_stream(m);
  fusedrop::bind::cuda::register_linear(m);
  fusedrop::bind::cuda::register_dropout(m);
  fusedrop::bind::cuda::register_activation(m);
}
