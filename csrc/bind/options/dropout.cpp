// dropout: see dropout.hpp.
#include "bind/options/dropout.hpp"

#include <pybind11/numpy.h>

#include <string>

#include "bind/array/text.hpp"

namespace fusedrop::bind {

bool flatten(const std::vector<py::ssize_t>& shape, const std::vector<i64>& strides, Flat& flat) {
  flat = Flat{};
  if (shape.empty()) return true;
  const std::size_t last = shape.size() - 1;
  flat.N = shape[last];
  flat.col_stride = strides[last];
  i64 expected = 0;  // the stride that lets axis d merge with the axes after it
  for (std::size_t d = last; d-- > 0;) {
    if (shape[d] != 1) {
      if (flat.M == 1)
        flat.row_stride = strides[d];
      else if (strides[d] != expected)
        return false;
      expected = strides[d] * shape[d];
    }
    flat.M *= shape[d];
  }
  return true;
}

bool is_inverted(const py::handle& scaling) {
  if (py::isinstance<py::str>(scaling)) {
    const std::string name = scaling.cast<std::string>();
    if (name == "inverted") return true;
    if (name == "classic") return false;
  }
  throw py::value_error("scaling must be 'inverted' or 'classic'; got " + repr_text(scaling));
}

std::vector<py::ssize_t> shape_from(const py::handle& value) {
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
    if (overflow) PyErr_Clear();
    if (overflow || shape.back() < 0)
      throw py::value_error("shape must be non-negative 64-bit integers; got " + repr_text(value));
  }
  return shape;
}

}  // namespace fusedrop::bind
