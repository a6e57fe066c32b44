// activation_name: from the name users write to the enumerator.
#pragma once

#include <pybind11/pybind11.h>

#include "core/activations.hpp"

namespace fusedrop::bind {

Activation activation_from(const pybind11::handle& name);  // ValueError lists the known names

inline Keeps keeps_of(Activation activation) {
  return with_activation(activation, [](auto act) { return decltype(act)::keeps; });
}

}  // namespace fusedrop::bind
