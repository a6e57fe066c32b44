// dlpack: arrays of other libraries (PyTorch, JAX, CuPy ...) as NumPy arrays, and results as arrays of these libraries,
// both without a copy. For the CPU; the calls of DLPack itself are in dlpack_protocol.hpp.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

namespace fusedrop::bind {

namespace py = pybind11;

namespace dlpack {
struct ExchangeApi;
}

// A NumPy view of an array that supports DLPack. NumPy's own arrays, and values that are not arrays, are returned as
// they are: the checks of array.hpp follow. Refuses arrays on other devices than the CPU and dtypes that no kernel
// computes with; `booleans` admits bool.
py::object as_array(const py::handle& value, const char* name, bool booleans = false);

// The library that a call's first array came from. Results are returned as arrays of this library.
class ArrayLibrary {
 public:
  explicit ArrayLibrary(const py::handle& operand);
  py::object wrap(py::object result) const;  // None stays None

 private:
  // Both are null for NumPy. exchange_ is the fast way, from_dlpack_ the one that every library has.
  const dlpack::ExchangeApi* exchange_ = nullptr;
  py::object from_dlpack_;
};

}  // namespace fusedrop::bind
