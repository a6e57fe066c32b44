// destinations: the arrays that a backward call writes its gradients to: a new array, the caller's own, or none.
#pragma once

#include "bind/array/array.hpp"
#include "bind/array/dlpack.hpp"

namespace fusedrop::bind {

// For an argument dx, dw ...: a new array for True, None (the gradient is not computed) for False, else the caller's
// array, which must not overlap the inputs.
py::object destination(const py::handle& view, const char* name, const char* dims, const Shape& shape,
                       const py::array& like, std::initializer_list<NamedArray> inputs);

void* data_of(py::object& destination);  // null for None

void refuse_shared(std::initializer_list<NamedArray> destinations);  // no two may share memory

// The gradient as the caller gets it back: the array that it passed, or a new array of `library`, or None.
py::object returned_gradient(const ArrayLibrary& library, const py::handle& arg, const py::object& gradient);

}  // namespace fusedrop::bind
