// cuda_module: hands a call whose first operand lies on a GPU to fusedrop._cuda, which has the same functions.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

namespace fusedrop::bind {

namespace py = pybind11;

bool other_on_cuda(const py::handle& value);  // of what is no NumPy array

// NumPy's arrays pay for one comparison of types.
inline bool on_cuda(const py::handle& value) { return !py::isinstance<py::array>(value) && other_on_cuda(value); }

bool is_cuda_saved(const py::handle& value);  // what fusedrop._cuda.linear_forward left

// The function of that name; ValueError about the operand where there is no CUDA module.
py::object cuda_function(const char* function, const py::handle& operand, const char* operand_name);

}  // namespace fusedrop::bind
