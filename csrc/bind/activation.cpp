// activation: activate and activate_backward, for activations without a layer; the names of the activations.
#include "bind/options/activation.hpp"

#include <string>
#include <vector>

#include "bind/array/array.hpp"
#include "bind/array/dlpack.hpp"
#include "bind/options/cuda_module.hpp"
#include "bind/register.hpp"
#include "cpu/runtime/dispatch.hpp"

namespace fusedrop::bind {
namespace {

// act(x), or dy * act'(x) where `dy` is not null.
py::array run(const py::array& x, const py::array* dy, Activation activation) {
  const py::array dense_x = contiguous(x);
  const py::array dense_dy = dy == nullptr ? py::array() : contiguous(*dy);
  py::array y = new_array(shape_of(x), x);
  const ActivationArgs args{dtype_of(x),      x.size(),  dense_x.data(), dy == nullptr ? nullptr : dense_dy.data(),
                            y.mutable_data(), activation};
  {
    py::gil_scoped_release release;
    cpu::backend().activation(args);
  }
  return y;
}

py::object activate(const py::handle& x_arg, const py::handle& activation) {
  if (on_cuda(x_arg)) return cuda_function("activate", x_arg, "x")(x_arg, activation);
  return ArrayLibrary(x_arg).wrap(run(floating_array(as_array(x_arg, "x"), "x"), nullptr, activation_from(activation)));
}

py::object activate_backward(const py::handle& dy_arg, const py::handle& x_arg, const py::handle& activation) {
  if (on_cuda(x_arg)) return cuda_function("activate_backward", x_arg, "x")(dy_arg, x_arg, activation);
  const py::array x = floating_array(as_array(x_arg, "x"), "x");
  const py::array dy = array_like(as_array(dy_arg, "dy"), "dy", x, "x");
  if (shape_text(dy) != shape_text(x))
    throw py::value_error("dy must be " + shape_text(x) + " to match x; got " + shape_text(dy));
  return ArrayLibrary(x_arg).wrap(run(x, &dy, activation_from(activation)));
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
