// dropout: shared by dropout's bindings for the CPU and for CUDA: the view of an array of any rank as a matrix, and the
// checks of arguments that are not arrays.
#pragma once

#include <pybind11/pybind11.h>

#include <vector>

#include "core/mask.hpp"

namespace fusedrop::bind {

namespace py = pybind11;

struct Flat {  // an array of any rank as a matrix [M,N], N its last axis; strides count elements
  i64 M = 1, N = 1, row_stride = 0, col_stride = 1;
};

// False where the leading axes cannot be merged into one axis with one stride: the array must then be copied.
bool flatten(const std::vector<py::ssize_t>& shape, const std::vector<i64>& strides, Flat& flat);

bool is_inverted(const py::handle& scaling);  // "inverted" or "classic", else ValueError

// The argument shape: an integer or a tuple of integers, each >= 0; else an error.
std::vector<py::ssize_t> shape_from(const py::handle& value);

}  // namespace fusedrop::bind
