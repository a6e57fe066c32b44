// destinations: the arrays that a backward call writes its gradients to: a new array, the caller's own, or none.
#pragma once

#include "bind/call/call.hpp"

namespace fusedrop::bind {

// An argument dx, dw ...: True for a new array, False for none (the gradient is not computed), else the caller's array.
struct Destination {
  py::handle arg;
  const char *name, *dims;
  Dims shape;
  Array array{};  // none where the gradient is not wanted
};

// Sets the array of each destination. The caller's arrays must not overlap the inputs or each other.
void set_arrays(const Call& call, std::initializer_list<Destination*> destinations, const Type& type,
                std::initializer_list<NamedArray> inputs);

// For a layer without bias: db must be True or False; it becomes False. `layer` is "a layer" or "an LSTM".
void refuse_bias_gradient(Destination& db, const char* layer);

// The gradient as the caller gets it back: the array that it passed, or a new array of its library, or None.
py::object returned_gradient(const Call& call, const Destination& destination);

}  // namespace fusedrop::bind
