// text: how error messages quote a caller's value.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

namespace fusedrop::bind {

inline std::string repr_text(const pybind11::handle& value) { return pybind11::repr(value).cast<std::string>(); }

inline std::string type_text(const pybind11::handle& value) {  // the name of its class
  return pybind11::str(pybind11::type::handle_of(value).attr("__name__")).cast<std::string>();
}

inline std::string shape_text(const std::vector<pybind11::ssize_t>& dims) {  // "[32, 256]"; -1 prints as "*"
  std::string text = "[";
  for (std::size_t d = 0; d < dims.size(); ++d)
    text += (d == 0 ? "" : ", ") + (dims[d] < 0 ? "*" : std::to_string(dims[d]));
  return text + "]";
}

}  // namespace fusedrop::bind
