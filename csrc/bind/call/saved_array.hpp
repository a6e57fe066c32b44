// saved_array: an array that a context keeps from the forward call until the backward call.
//
// A context owns storage, not objects: PyTorch can give a tensor other storage in place (x.data = ..., set_(),
// module.half()) and NumPy can give an array another shape, so a view that was made for one call may dangle in the
// next. What is saved has the address, sizes and strides of the forward call; memory that was resized since is refused.
#pragma once

#include "arrays/array.hpp"

namespace fusedrop::bind {

using namespace arrays;

struct SavedArray : Array {
  py::object object;  // for the caller: its array, or another one of the same storage; null for a result of fusedrop's
  Extent base{};  // where `object` is a view of another NumPy array: the memory of that array

  SavedArray& operator=(Array array) {  // a view for this call
    Array::operator=(std::move(array));
    return *this;
  }
  void save(const py::handle& value);  // the caller's object whose view this is; a result needs no such call
  void require_unchanged(const char* name) const;  // ValueError where the memory is no longer what it was
};

}  // namespace fusedrop::bind
