// active_columns: the list of columns that a kernel computes with: those that unit dropout keeps and that, by the
// argument active_inputs, can be non-zero.
#pragma once

#include <memory>
#include <vector>

#include "bind/array/array.hpp"
#include "core/mask.hpp"

namespace fusedrop::bind {

// The argument active_inputs: None, or a bool array [n], else an error naming both sides.
py::object active_columns_array(const py::handle& value, py::ssize_t n);

class ActiveColumnList {
 public:
  ActiveColumnList() = default;  // all columns are active
  // Of n columns, those that a unit mask keeps (any other mask keeps all of them) and that are true in `active`, a bool
  // array, or None for all.
  ActiveColumnList(const Mask& mask, const py::object& active, i64 n);

  ActiveColumns view() const;  // valid as long as this object or a copy of it lives
  py::object array(i64 n) const;  // bool [n], or None where all columns are active

 private:
  struct Lists {
    std::vector<i64> index;  // the active columns, ascending
    std::vector<u32> words;  // the same as bits, 32 columns a word, and a spare word
  };
  std::shared_ptr<const Lists> lists_;  // null: all columns
};

}  // namespace fusedrop::bind
