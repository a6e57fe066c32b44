// call: binds the arguments of a call to parameter names. An error about a missing or misspelled argument has the text
// that Python has for it; pybind11's own error would list C++ signatures.
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <string>

namespace fusedrop::bind {

namespace py = pybind11;

// One object for each name; null for an argument that was not passed.
template <std::size_t N>
std::array<py::object, N> bind_call(const std::string& function, const char* const (&names)[N], const py::args& args,
                                    const py::kwargs& kwargs) {
  std::array<py::object, N> bound;
  if (args.size() > N)
    throw py::type_error(function + " takes at most " + std::to_string(N) + " arguments; got " +
                         std::to_string(args.size()));
  for (std::size_t i = 0; i < args.size(); ++i) bound[i] = args[i];
  for (const std::pair<py::handle, py::handle> item : kwargs) {
    const auto& [key, value] = item;
    const std::string name = key.cast<std::string>();
    std::size_t i = 0;
    while (i < N && name != names[i]) ++i;
    if (i == N) throw py::type_error(function + " got an unexpected keyword argument '" + name + "'");
    if (bound[i]) throw py::type_error(function + " got multiple values for argument '" + name + "'");
    bound[i] = py::reinterpret_borrow<py::object>(value);
  }
  return bound;
}

}  // namespace fusedrop::bind
