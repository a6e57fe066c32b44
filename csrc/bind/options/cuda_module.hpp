// cuda_module: passes a call whose first array lies on a GPU on to fusedrop._cuda, which has the same functions.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

namespace fusedrop::bind {

namespace py = pybind11;

bool foreign_array_on_cuda(const py::handle& value);  // for a value that is not a NumPy array

// For a NumPy array this costs one comparison of types.
inline bool on_cuda(const py::handle& value) {
  return !py::isinstance<py::array>(value) && foreign_array_on_cuda(value);
}

bool is_cuda_context(const py::handle& value);  // whether fusedrop._cuda.linear_forward returned it

// The function of that name in fusedrop._cuda; ValueError that names the operand where there is no CUDA module.
py::object cuda_function(const char* function, const py::handle& operand, const char* operand_name);

}  // namespace fusedrop::bind
