// arrays: every check of a caller's array, and the views that kernels get. Errors name the argument and both sides.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "bind/text.hpp"
#include "core/args.hpp"

namespace fusedrop::bind {

namespace py = pybind11;

using Shape = std::vector<py::ssize_t>;

std::string shape_text(const py::array& a);                     // "[32, 256]"
std::string dtype_text(const py::array& a);                       // "float32"

// float32, float64 or ml_dtypes' bfloat16, else TypeError.
py::array floating_array(const py::handle& value, const char* name);
Dtype dtype_of(const py::array& a);

// The same dtype as `like`, else TypeError naming both.
py::array array_like(const py::handle& value, const char* name, const py::array& like, const char* like_name);

py::array contiguous(const py::array& a);  // itself, or a copy in C order

void require_rank(const py::array& a, const char* name, py::ssize_t rank, const char* letters);

// A caller's array for results: a C-contiguous, aligned, writeable ndarray of this shape and dtype, else an error.
py::array output_array(const py::handle& value, const char* name, const char* letters, const Shape& shape,
                       const py::array& like);
py::array new_array(const Shape& shape, const py::array& like);

// `others` are what the caller passed, before any copy; what is no array is passed over.
using Named = std::pair<const char*, py::handle>;
void refuse_overlap(const char* name, const py::array& out, std::initializer_list<Named> others);

Matrix matrix(const py::array& a);  // of a 2-D array
i64 stride(const py::array& a, int axis);

}  // namespace fusedrop::bind
