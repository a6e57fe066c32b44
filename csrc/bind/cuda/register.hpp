// register: the module's table of contents, one function per topic.
#pragma once

#include <pybind11/pybind11.h>

namespace fusedrop::bind::cuda {

void register_own_stream(pybind11::module_& m);  // OwnArray
void register_linear(pybind11::module_& m);  // linear_forward, linear_backward, restore_context, LinearContext, TF32
void register_dropout(pybind11::module_& m);     // dropout, dropout_mask
void register_activation(pybind11::module_& m);  // activate, activate_backward

}  // namespace fusedrop::bind::cuda
