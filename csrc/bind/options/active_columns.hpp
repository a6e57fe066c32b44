// active_columns: the list of columns that a kernel computes with: those that unit dropout keeps and that, by the
// argument active_inputs, can be non-zero.
#pragma once

#include <memory>
#include <vector>

#include "bind/call/call.hpp"
#include "core/mask.hpp"

namespace fusedrop::bind {

// The argument active_inputs: a bool array [n] in C order, else an error naming both sides.
Array active_columns_array(const Call& call, const py::handle& value, i64 n);

class ActiveColumnList {
 public:
  ActiveColumnList() = default;  // all columns are active
  // Of n columns, those that a unit mask keeps (any other mask keeps all of them) and that are true in `active`; no
  // array stands for all of them.
  ActiveColumnList(const Mask& mask, const Array& active, i64 n);

  ActiveColumns view() const;  // valid as long as this object or a copy of it lives

 private:
  struct Lists {
    std::vector<i64> index;  // the active columns, ascending
    std::vector<u32> words;  // the same as bits, 32 columns a word, and a spare word
  };
  std::shared_ptr<const Lists> lists_;  // null: all columns
};

}  // namespace fusedrop::bind
