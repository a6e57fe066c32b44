// dropout: the arguments of dropout that are not arrays.
#pragma once

#include "arrays/array.hpp"

namespace fusedrop::bind {

using namespace arrays;

bool is_inverted(const py::handle& scaling);  // "inverted" or "classic", else ValueError

// The argument shape: an integer or a tuple of integers, each >= 0; else an error.
Dims shape_from(const py::handle& value);

}  // namespace fusedrop::bind
