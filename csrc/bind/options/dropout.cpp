// dropout: see dropout.hpp.
#include "bind/options/dropout.hpp"

#include <pybind11/numpy.h>

#include <string>

#include "arrays/text.hpp"

namespace fusedrop::bind {

using namespace arrays;

bool is_inverted(const py::handle& scaling) {
  if (py::isinstance<py::str>(scaling)) {
    const std::string name = scaling.cast<std::string>();
    if (name == "inverted") return true;
    if (name == "classic") return false;
  }
  throw py::value_error("scaling must be 'inverted' or 'classic'; got " + repr_text(scaling));
}

Dims shape_from(const py::handle& value) {
  const auto refuse = [&] {
    return py::type_error("shape must be an integer or a tuple of integers >= 0; got " + repr_text(value));
  };
  const auto is_whole = [](const py::handle& v) {  // an array has __index__ too
    return PyIndex_Check(v.ptr()) && !PyBool_Check(v.ptr()) && !py::isinstance<py::array>(v);
  };
  const py::object tuple =
      is_whole(value) ? py::object(py::make_tuple(value)) : py::reinterpret_borrow<py::object>(value);
  if (!py::isinstance<py::tuple>(tuple) && !py::isinstance<py::list>(tuple)) throw refuse();
  std::vector<py::ssize_t> shape;
  for (const py::handle& dim : py::reinterpret_borrow<py::sequence>(tuple)) {
    if (!is_whole(dim)) throw refuse();
    shape.push_back(PyNumber_AsSsize_t(dim.ptr(), PyExc_ValueError));
    const bool overflow = PyErr_Occurred() != nullptr;
    if (overflow) discard_error();
    if (overflow || shape.back() < 0)
      throw py::value_error("shape must be non-negative 64-bit integers; got " + repr_text(value));
  }
  return Dims(shape.data(), static_cast<int>(shape.size()));
}

}  // namespace fusedrop::bind
