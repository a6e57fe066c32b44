// activation: activate and activate_backward, for the standalone layers.
#include "bind/options/activation.hpp"
#include "bind/cuda/array/device_library.hpp"
#include "bind/cuda/paths.hpp"
#include "bind/cuda/register.hpp"
#include "cuda/runtime/kernels.hpp"

namespace fusedrop::bind::cuda {
namespace {

using fusedrop::cuda::DeviceGuard;
using fusedrop::cuda::Stream;

void require_contiguous(const DeviceArray& a, const char* name) {
  if (!a.contiguous())
    throw py::value_error(std::string(name) + " must be C-contiguous, there is no hidden copy on the GPU; got " +
                          shape_text(a) + " with other strides");
}

// y = act(x), or dy * act'(x) if dy is given.
py::object run(const py::handle& x_given, const py::handle& dy_given, const py::handle& activation) {
  const DeviceLibrary library(x_given, "x");
  const Stream stream = library.stream();
  const DeviceArray x = library.view(x_given, "x", stream);
  require_floating(x, "x");
  require_contiguous(x, "x");
  DeviceArray dy;
  if (dy_given) {
    dy = library.view(dy_given, "dy", stream);
    require_like(dy, "dy", x, "x");
    if (dy.shape != x.shape)
      throw py::value_error("dy must be " + shape_text(x) + " to match x; got " + shape_text(dy));
    require_contiguous(dy, "dy");
  }
  ActivationArgs args{dtype_of(x), x.size(), x.data, dy.data, nullptr, activation_from(activation)};
  require_proved(Path::activation);
  const DeviceGuard guard(library.device());
  const DeviceArray y = library.empty(x.shape, x.type, stream);
  args.y = y.data;
  {
    py::gil_scoped_release release;
    fusedrop::cuda::activation(args, stream);
  }
  library.defer_release(stream, {&x, &dy});
  return library.wrap(y);
}

py::object activate(const py::handle& x, const py::handle& activation) { return run(x, {}, activation); }

py::object activate_backward(const py::handle& dy, const py::handle& x, const py::handle& activation) {
  return run(x, dy, activation);
}

}  // namespace

void register_activation(py::module_& m) {
  m.def("activate", &activate, py::arg("x"), py::arg("activation"));
  m.def("activate_backward", &activate_backward, py::arg("dy"), py::arg("x"), py::arg("activation"));
}

}  // namespace fusedrop::bind::cuda
