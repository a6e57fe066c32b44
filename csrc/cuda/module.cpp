// module: fusedrop._cuda, the kernels for a GPU and the functions that its memory and streams need. The bindings of
// fusedrop._core call them through `backend`, which fusedrop.cuda registers there.
#include <pybind11/pybind11.h>

#include "cuda/runtime/device.hpp"
#include "cuda/runtime/table.hpp"

PYBIND11_MODULE(_cuda, m) {
  namespace py = pybind11;
  using fusedrop::DeviceBackend;
  m.doc() = "CUDA kernels of fusedrop. The public interface is the package fusedrop; fusedrop._core runs the kernels.";
  m.attr("backend") = py::capsule(&fusedrop::cuda::backend(), DeviceBackend::capsule_name);
  m.def("state", &fusedrop::cuda::state, "The device found and its capability, or why no kernel can run.");
  m.def("device_identity", &fusedrop::cuda::device_identity, py::arg("device"),
        "One line: the device with its UUID, the code that runs on it, the driver and the CUDA runtime.");
  m.def("emulated", &fusedrop::cuda::emulated, "Whether kernels run on the host, in arrays of the CPU: for tests.");
}
