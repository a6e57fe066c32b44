// dlpack: arrays of other libraries (PyTorch, JAX, CuPy ...) in and out, without a copy.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

namespace fusedrop::bind {

namespace py = pybind11;

namespace dlpack {
struct ExchangeApi;
}

// A NumPy view of what speaks DLPack; NumPy's own arrays, and what is no array at all, as they are: the checks of
// arrays.hpp come next. Refuses other devices than the CPU, and dtypes that no kernel knows; `booleans` lets bool through.
py::object viewed(const py::handle& value, const char* name, bool booleans = false);

// Hands results back in the library that the caller's first operand came from.
class Library {
 public:
  explicit Library(const py::handle& operand);
  py::object wrap(py::object result) const;  // None stays None

 private:
  // Neither: NumPy. The first is the fast way, the second the one that every library has.
  const dlpack::ExchangeApi* exchange_ = nullptr;
  py::object from_dlpack_;
};

}  // namespace fusedrop::bind
