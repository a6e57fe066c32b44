// activation: see activation.hpp.
#include "bind/options/activation.hpp"

#include <string>

#include "arrays/text.hpp"

namespace fusedrop::bind {

using namespace arrays;

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
