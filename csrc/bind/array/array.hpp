// array: the checks of a caller's NumPy array, and the views of it that kernels get. Errors name the argument, what it
// must be and what it was.
//
// Names in all bindings: x_arg is the Python argument, x the checked array. Where overlaps are checked, x_view is the
// result of as_array() (dlpack.hpp), because x can be a copy of it.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "bind/array/text.hpp"
#include "core/dtypes.hpp"
#include "core/params/matrix.hpp"

namespace fusedrop::bind {

namespace py = pybind11;

using Shape = std::vector<py::ssize_t>;

Shape shape_of(const py::array& a);
std::string shape_text(const py::array& a);  // "[32, 256]"
std::string dtype_text(const py::array& a);  // "float32"

// An array of float32, float64 or ml_dtypes' bfloat16; TypeError for any other value.
py::array floating_array(const py::handle& value, const char* name);
Dtype dtype_of(const py::array& a);

// An array of the same dtype as `like`; TypeError otherwise, which names both.
py::array array_like(const py::handle& value, const char* name, const py::array& like, const char* like_name);

py::array contiguous(const py::array& a);  // `a` itself where it is in C order, else a copy in C order

// `dims` is the notation of the shape: "[M, K]".
void require_rank(const py::array& a, const char* name, py::ssize_t rank, const char* dims);

// A caller's array for results: a C-contiguous, aligned, writeable array of this shape and of the dtype of `like`.
py::array output_array(const py::handle& value, const char* name, const char* dims, const Shape& shape,
                       const py::array& like);
py::array new_array(const Shape& shape, const py::array& like);

// ValueError where `out` shares memory with one of `others`. These are the views before any copy; values that are not
// arrays are skipped.
using NamedArray = std::pair<const char*, py::handle>;
void refuse_overlap(const char* name, const py::array& out, std::initializer_list<NamedArray> others);

Matrix matrix(const py::array& a);         // of a 2-D array
i64 stride(const py::array& a, int axis);  // in elements

}  // namespace fusedrop::bind
