// destinations: see destinations.hpp.
#include "bind/destinations.hpp"

#include "bind/text.hpp"

namespace fusedrop::bind {

py::object destination(const py::handle& wanted, const char* name, const char* letters, const Shape& shape,
                       const py::array& like, std::initializer_list<Named> inputs) {
  if (wanted.ptr() == Py_False) return py::none();
  if (wanted.ptr() == Py_True) return new_array(shape, like);
  if (!py::isinstance<py::array>(wanted))
    throw py::type_error(std::string(name) + " must be True, False or an array for the result; got " +
                         repr_text(wanted));
  py::array out = output_array(wanted, name, letters, shape, like);
  refuse_overlap(name, out, inputs);
  return std::move(out);
}

void* data_of(py::object& destination) {
  return destination.is_none() ? nullptr : static_cast<py::array&>(destination).mutable_data();
}

void refuse_shared(std::initializer_list<Named> destinations) {
  for (const Named* later = destinations.begin(); later != destinations.end(); ++later)
    for (const Named* earlier = destinations.begin(); earlier != later; ++earlier)
      if (!later->second.is_none() && !earlier->second.is_none())
        refuse_overlap(later->first, py::reinterpret_borrow<py::array>(later->second), {*earlier});
}

py::object returned(const Library& library, const py::handle& given, const py::object& gradient) {
  const bool fresh = given.ptr() == Py_True || given.ptr() == Py_False;
  return fresh || gradient.is_none() ? library.wrap(gradient) : py::reinterpret_borrow<py::object>(given);
}

}  // namespace fusedrop::bind
