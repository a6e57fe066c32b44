// bind_activation: the activations' names, and activate / activate_backward for the stand-alone layers.
#include <string>
#include <vector>

#include "bind/activation_name.hpp"
#include "bind/arrays.hpp"
#include "bind/cuda_module.hpp"
#include "bind/dlpack.hpp"
#include "bind/register.hpp"
#include "cpu/dispatch.hpp"

namespace fusedrop::bind {
namespace {

py::array run(const py::array& x_in, const py::array* dy_in, Activation activation) {
  const py::array x = contiguous(x_in);
  const py::array dy = dy_in == nullptr ? py::array() : contiguous(*dy_in);
  py::array y(x.dtype(), std::vector<py::ssize_t>(x.shape(), x.shape() + x.ndim()));
  const ActivationArgs args{dtype_of(x),      x.size(),  x.data(), dy_in == nullptr ? nullptr : dy.data(),
                            y.mutable_data(), activation};
  {
    py::gil_scoped_release release;
    cpu::backend().activation(args);
  }
  return y;
}

py::object activate(const py::handle& x_in, const py::handle& activation) {
  if (on_cuda(x_in)) return cuda_function("activate", x_in, "x")(x_in, activation);
  return Library(x_in).wrap(run(floating_array(viewed(x_in, "x"), "x"), nullptr, activation_from(activation)));
}

py::object activate_backward(const py::handle& dy_in, const py::handle& x_in, const py::handle& activation) {
  if (on_cuda(x_in)) return cuda_function("activate_backward", x_in, "x")(dy_in, x_in, activation);
  const py::array x = floating_array(viewed(x_in, "x"), "x");
  const py::array dy = array_like(viewed(dy_in, "dy"), "dy", x, "x");
  if (shape_text(dy) != shape_text(x))
    throw py::value_error("dy must be " + shape_text(x) + " to match x; got " + shape_text(dy));
  return Library(x_in).wrap(run(x, &dy, activation_from(activation)));
}

}  // namespace

void register_activation(py::module_& m) {
  py::list names;
#define FUSEDROP_NAME(id, type, name) names.append(name);
  FUSEDROP_ACTIVATIONS(FUSEDROP_NAME)
#undef FUSEDROP_NAME
  m.attr("activations") = py::tuple(names);
  m.def("activate", &activate, py::arg("x"), py::arg("activation"));
  m.def("activate_backward", &activate_backward, py::arg("dy"), py::arg("x"), py::arg("activation"));
}

}  // namespace fusedrop::bind
