// activation: the enumerator of an activation's name.
#pragma once

#include <pybind11/pybind11.h>

#include "core/activations.hpp"

namespace fusedrop::bind {

Activation activation_from(const pybind11::handle& value);  // ValueError for an unknown name; it lists the known ones

inline const char* saved_name_of(SavedKind kind) {  // the public name of the array that a layer saves
  return kind == SavedKind::output ? "y" : kind == SavedKind::preactivation ? "z" : "nothing";
}

inline SavedKind saved_kind_of(Activation activation) {
  return with_activation(activation, [](auto act) { return decltype(act)::saves; });
}

}  // namespace fusedrop::bind
