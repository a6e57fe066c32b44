// backend: the table of kernels of one instruction set.
#pragma once

#include "core/args.hpp"
#include "core/conv_args.hpp"
#include "core/lstm_args.hpp"
#include "core/pool_args.hpp"

namespace fusedrop::cpu {

struct Backend {
  const char* name;
  void (*linear_forward)(const LinearForwardArgs&);
  void (*linear_backward)(const LinearBackwardArgs&);
  void (*conv2d_forward)(const Conv2dForwardArgs&);
  void (*conv2d_backward)(const Conv2dBackwardArgs&);
  void (*dropout)(const DropoutArgs&);
  void (*dropout_mask)(const DropoutMaskArgs&);
  void (*activation)(const ActivationArgs&);
  void (*softmax_cross_entropy)(const SoftmaxArgs&);
  void (*update)(const UpdateArgs&);
  void (*pool_forward)(const PoolForwardArgs&);
  void (*pool_backward)(const PoolBackwardArgs&);
  void (*lstm_forward)(const LstmForwardArgs&);
  void (*lstm_backward)(const LstmBackwardArgs&);
  i64 (*fma_burst)(Dtype, i64 rounds);  // returns its floating-point operations
};

}  // namespace fusedrop::cpu
