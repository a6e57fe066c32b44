// destinations: where a backward call's gradients go: new arrays, the caller's own, or nowhere.
#pragma once

#include "bind/arrays.hpp"
#include "bind/dlpack.hpp"

namespace fusedrop::bind {

// True makes an array, False leaves the gradient out (None), an array receives it; it must not overlap the inputs.
py::object destination(const py::handle& wanted, const char* name, const char* letters, const Shape& shape,
                       const py::array& like, std::initializer_list<Named> inputs);

void* data_of(py::object& destination);  // null where it is left out

void refuse_shared(std::initializer_list<Named> destinations);  // no two may share memory

// What the caller gets: the destination it gave, or a new array in its own library.
py::object returned(const Library& library, const py::handle& given, const py::object& gradient);

}  // namespace fusedrop::bind
