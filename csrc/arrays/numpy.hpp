// numpy: NumPy's arrays as Array, and new arrays of NumPy. This is the only file that reads NumPy's C structs.
#pragma once

#include <pybind11/numpy.h>

#include "arrays/array.hpp"

namespace fusedrop::arrays {

inline bool is_numpy(const py::handle& value) { return py::isinstance<py::array>(value); }

// The view of an array, or nothing for one that has no such view: dtypes other than numbers and ml_dtypes' bfloat16 in
// this machine's byte order, and masked arrays, whose masks would be ignored.
// Kernels count strides in elements: an array with other strides or an odd address (a field of packed records) is
// copied.
Array numpy_view(const py::handle& array);

// What an array is now, without a copy: a context compares it with what it saved.
bool is_unchanged(const py::handle& array, const Array& saved);
// The memory of the NumPy array that this one is a view of, or nothing. It changes where that array is resized: NumPy
// leaves its views as they are.
Extent base_extent(const py::handle& array);

// A new array in C order, its contents unspecified. `dtype` is the NumPy dtype, or null for the memory of a type that
// NumPy may not know: bfloat16 is then stored as uint16.
Array new_numpy_array(const Dims& shape, const Type& type, const py::handle& dtype = {});
py::handle numpy_dtype(const py::handle& array);

Array contiguous(const Array& a);  // `a` itself where it is in C order, else a copy, for arrays on the CPU

std::string numpy_dtype_text(const py::handle& array);  // "float32"

}  // namespace fusedrop::arrays
