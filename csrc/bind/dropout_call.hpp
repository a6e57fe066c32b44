// dropout_call: what dropout's bindings for the CPU and for CUDA share: the view of any array as rows of its last axis,
// and the checks of arguments that are no arrays.
#pragma once

#include <pybind11/pybind11.h>

#include <vector>

#include "core/mask.hpp"

namespace fusedrop::bind {

namespace py = pybind11;

struct Flat {  // any array as rows of its last axis; strides count elements
  i64 M = 1, N = 1, row_stride = 0, col_stride = 1;
};

// Leading axes that step through memory like one axis need no copy; returns false where they do not.
bool flatten(const std::vector<py::ssize_t>& shape, const std::vector<i64>& strides, Flat& flat);

bool is_inverted(const py::handle& scaling);  // "inverted" or "classic", else ValueError
std::vector<py::ssize_t> shape_of(const py::handle& value);  // an integer or a tuple of them, each >= 0, else an error

}  // namespace fusedrop::bind
