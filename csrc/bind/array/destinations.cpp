// destinations: see destinations.hpp.
#include "bind/array/destinations.hpp"

#include "bind/array/text.hpp"

namespace fusedrop::bind {

py::object destination(const py::handle& view, const char* name, const char* dims, const Shape& shape,
                       const py::array& like, std::initializer_list<NamedArray> inputs) {
  if (view.ptr() == Py_False) return py::none();
  if (view.ptr() == Py_True) return new_array(shape, like);
  if (!py::isinstance<py::array>(view))
    throw py::type_error(std::string(name) + " must be True, False or an array for the result; got " + repr_text(view));
  py::array out = output_array(view, name, dims, shape, like);
  refuse_overlap(name, out, inputs);
  return std::move(out);
}

void* data_of(py::object& destination) {
  return destination.is_none() ? nullptr : static_cast<py::array&>(destination).mutable_data();
}

void refuse_shared(std::initializer_list<NamedArray> destinations) {
  for (const NamedArray* later = destinations.begin(); later != destinations.end(); ++later)
    for (const NamedArray* earlier = destinations.begin(); earlier != later; ++earlier)
      if (!later->second.is_none() && !earlier->second.is_none())
        refuse_overlap(later->first, py::reinterpret_borrow<py::array>(later->second), {*earlier});
}

py::object returned_gradient(const ArrayLibrary& library, const py::handle& arg, const py::object& gradient) {
  const bool is_new = arg.ptr() == Py_True || arg.ptr() == Py_False;
  return is_new || gradient.is_none() ? library.wrap(gradient) : py::reinterpret_borrow<py::object>(arg);
}

}  // namespace fusedrop::bind
