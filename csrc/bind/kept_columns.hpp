// kept_columns: the columns that unit dropout keeps, or that a caller knows to be other than zero, as kernels take them.
#pragma once

#include <memory>
#include <vector>

#include "bind/arrays.hpp"

namespace fusedrop::bind {

// The argument kept_inputs: None, or a bool array [n], else an error naming both sides.
py::object kept_columns_array(const py::handle& value, py::ssize_t n);

class KeptColumns {
 public:
  KeptColumns() = default;  // all columns
  // Those of n columns that a unit mask keeps (any other mask keeps all of them) and `known`, a bool array or None, allows.
  KeptColumns(const Mask& mask, const py::object& known, i64 n);

  Kept view() const;  // valid as long as this object or a copy of it
  py::object array(i64 n) const;  // bool [n], or None where all count

 private:
  struct Lists {
    std::vector<i64> index;
    std::vector<u32> words;
  };
  std::shared_ptr<const Lists> lists_;
};

}  // namespace fusedrop::bind
