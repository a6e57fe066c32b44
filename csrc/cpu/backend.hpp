// backend: the table of kernels of one instruction set.
#pragma once

#include "core/args.hpp"

namespace fusedrop::cpu {

struct Backend {
  const char* name;
  void (*linear_forward)(const LinearForwardArgs&);
  void (*linear_backward)(const LinearBackwardArgs&);
  void (*dropout)(const DropoutArgs&);
  void (*dropout_mask)(const DropoutMaskArgs&);
  void (*activation)(const ActivationArgs&);
  void (*softmax_cross_entropy)(const SoftmaxArgs&);
  void (*update)(const UpdateArgs&);
  i64 (*fma_burst)(Dtype, i64 rounds);  // returns its floating-point operations
};

}  // namespace fusedrop::cpu
