// text: how error messages quote a caller's value, and what becomes of errors that a caller's own methods raise.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "arrays/dims.hpp"

namespace fusedrop::arrays {

// Clears the error that a method of the caller's value raised: fusedrop raises its own error, or does without the
// method. Ctrl-C and other exceptions that are no Exception pass through.
inline void discard_error() {
  if (PyErr_ExceptionMatches(PyExc_Exception) == 0) throw pybind11::error_already_set();
  PyErr_Clear();
}

inline std::string repr_text(const pybind11::handle& value) { return pybind11::repr(value).cast<std::string>(); }

inline std::string type_text(const pybind11::handle& value) {  // the name of its class
  return pybind11::str(pybind11::type::handle_of(value).attr("__name__")).cast<std::string>();
}

inline std::string shape_text(const Dims& dims) {  // "[32, 256]"; -1 prints as "*"
  std::string text = "[";
  for (int d = 0; d < dims.size(); ++d) text += (d == 0 ? "" : ", ") + (dims[d] < 0 ? "*" : std::to_string(dims[d]));
  return text + "]";
}

}  // namespace fusedrop::arrays
