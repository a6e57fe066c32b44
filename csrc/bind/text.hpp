// text: how error messages quote a caller's value.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

namespace fusedrop::bind {

inline std::string repr_text(const pybind11::handle& value) { return pybind11::repr(value).cast<std::string>(); }

inline std::string type_text(const pybind11::handle& value) {
  return pybind11::str(pybind11::type::handle_of(value).attr("__name__")).cast<std::string>();
}

}  // namespace fusedrop::bind
