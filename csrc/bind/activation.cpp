// activation: activate and activate_backward, for activations without a layer; the names of the activations.
#include "bind/options/activation.hpp"

#include "arrays/numpy.hpp"
#include "bind/call/call.hpp"
#include "bind/options/arguments.hpp"
#include "bind/register.hpp"
#include "core/params/elementwise.hpp"

namespace fusedrop::bind {
namespace {

Array dense(const Call& call, Array a, const char* name) {
  if (call.on_device() && !a.contiguous())
    throw py::value_error(std::string(name) + " must be C-contiguous, there is no hidden copy on the GPU; got " +
                          shape_text(a.shape) + " with other strides");
  return contiguous(a);
}

// act(x), or dy * act'(x) where dy is given.
py::object run(const py::handle& x_arg, const py::handle& dy_arg, const py::handle& activation) {
  const Library library(x_arg, "x");
  const Call call(library);
  const Array x = dense(call, call.floating(x_arg, "x"), "x");
  Array dy;
  if (dy_arg) {
    dy = call.like(dy_arg, "dy", x, "x");
    if (dy.shape != x.shape)
      throw py::value_error("dy must be " + shape_text(x.shape) + " to match x; got " + shape_text(dy.shape));
    dy = dense(call, dy, "dy");
  }
  ActivationArgs args{dtype_of(x), x.size(), x.data, dy.data, nullptr, activation_from(activation)};
  call.require_verified([&] { return "activation " + type_name(x.type); });
  const Array y = call.empty(x.shape, x.type);
  args.y = y.data;
  call.run(kernels::activation, args, {&x, &dy, &y});
  return call.wrap(y);
}

py::object activate(const Arguments<2>& arguments) { return run(arguments[0], {}, arguments[1]); }

py::object activate_backward(const Arguments<3>& arguments) {
  const auto& [dy, x, activation] = arguments;
  return run(x, dy, activation);
}

}  // namespace

void register_activation(py::module_& m) {
  py::list names;
  py::dict saved;
#define FUSEDROP_NAME(id, type, name) \
  names.append(name);                 \
  saved[name] = saved_name_of(type::saves);
  FUSEDROP_ACTIVATIONS(FUSEDROP_NAME)
#undef FUSEDROP_NAME
  m.attr("activations") = py::tuple(names);
  m.attr("saved_for_backward") = saved;
  def<&activate>(m, "activate", {"x", "activation"});
  def<&activate_backward>(m, "activate_backward", {"dy", "x", "activation"});
}

}  // namespace fusedrop::bind
