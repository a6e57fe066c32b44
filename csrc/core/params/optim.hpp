// optim: the plain structs of an optimizer step that cross from the bindings to a backend. The bindings have checked
// all values.
#pragma once

#include "core/dtypes.hpp"

namespace fusedrop {

enum class UpdateRule { sgd, adam };

struct UpdatePart {  // one parameter
  Dtype dtype;
  void* value;  // n contiguous elements, updated in place
  const void* grad;  // n contiguous elements
  void* first;  // velocity or first moment, in the accumulator type; null where the rule has none
  void* second;  // second moment, in the accumulator type; null where the rule has none
  i64 n;
  bool penalized;  // l1 and l2 apply to this parameter
};

struct UpdateArgs {  // one optimizer step, see core/update.hpp
  const UpdatePart* parts;
  i64 count;
  UpdateRule rule;
  double lr;  // for Adam already divided by 1 - beta1^t
  double l1, l2;  // factors of the penalties
  double beta1;  // Adam's beta1, or SGD's momentum
  bool nesterov;
  double beta2, root, eps;  // Adam only; root = 1 / sqrt(1 - beta2^t)
};

}  // namespace fusedrop
