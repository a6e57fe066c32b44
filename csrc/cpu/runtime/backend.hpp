// backend: the table of kernels of one instruction set.
#pragma once

#include "core/params/conv2d.hpp"
#include "core/params/elementwise.hpp"
#include "core/params/linear.hpp"
#include "core/params/lstm.hpp"
#include "core/params/optim.hpp"
#include "core/params/pool.hpp"

namespace fusedrop::cpu {

struct Backend {
  const char* name;  // of the instruction set
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
  i64 (*fma_burst)(Dtype, i64 rounds);  // returns the number of floating-point operations it did
};

}  // namespace fusedrop::cpu
