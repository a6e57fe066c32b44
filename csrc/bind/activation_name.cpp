// activation_name: see activation_name.hpp.
#include "bind/activation_name.hpp"

#include <string>

#include "bind/text.hpp"

namespace fusedrop::bind {

Activation activation_from(const pybind11::handle& value) {
  std::string known;
#define FUSEDROP_MATCH(id, type, name)                                                                                 \
  if (PyUnicode_Check(value.ptr()) && PyUnicode_CompareWithASCIIString(value.ptr(), name) == 0) return Activation::id; \
  known += known.empty() ? "'" name "'" : ", '" name "'";
  FUSEDROP_ACTIVATIONS(FUSEDROP_MATCH)
#undef FUSEDROP_MATCH
  throw pybind11::value_error("activation must be one of " + known + "; got " + repr_text(value));
}

}  // namespace fusedrop::bind
