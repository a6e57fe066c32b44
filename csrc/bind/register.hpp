// register: the module's table of contents, one function for each topic.
#pragma once

#include <pybind11/pybind11.h>

namespace fusedrop::bind {

void register_philox(pybind11::module_& m);      // Philox
void register_linear(pybind11::module_& m);  // linear_forward, linear_backward, linear_gradients, LinearContext, TF32
void register_conv2d(pybind11::module_& m);  // conv2d_forward, conv2d_backward, Conv2dContext
void register_dropout(pybind11::module_& m);  // dropout, dropout_backward, dropout_mask
void register_activation(pybind11::module_& m);  // activate, activate_backward, the names of the activations
void register_lstm(pybind11::module_& m);  // lstm_forward, lstm_backward, LSTMContext
void register_optim(pybind11::module_& m);  // softmax_cross_entropy, sgd_step, adam_step
void register_pool(pybind11::module_& m);  // pool_forward, pool_backward, PoolContext
void register_runtime(pybind11::module_& m);  // instruction sets, threads

}  // namespace fusedrop::bind
