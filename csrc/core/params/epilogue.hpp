// epilogue: what a layer does with each complete sum of its product, see core/epilogue.hpp. The structs of layers that
// multiply matrices have it as a member. The bindings have checked all values.
#pragma once

#include "core/epilogue.hpp"
#include "core/mask.hpp"

namespace fusedrop {

struct EpilogueParams {
  const void* b = nullptr;  // [N] or null; only forward reads it
  i64 b_stride = 1;  // between elements of b
  Activation activation = Activation::identity;
  bool dropout_first = false;  // dropout comes before the activation
  SavedKind saved_kind = SavedKind::nothing;  // what forward saved; only backward reads it
  Mask mask;  // of y [M,N]; for unit dropout of a linear layer, see LinearForwardArgs::outputs
};

}  // namespace fusedrop
