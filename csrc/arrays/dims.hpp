// dims: the shape or the strides of an array.
#pragma once

#include <algorithm>
#include <array>
#include <initializer_list>
#include <vector>

#include "core/platform.hpp"

namespace fusedrop::arrays {

// A short vector. Up to four numbers, the most that a layer has, need no allocation: a call of a small layer takes
// about a microsecond.
class Dims {
 public:
  Dims() = default;
  explicit Dims(int rank) : rank_(rank), many_(rank > kFew ? static_cast<std::size_t>(rank) : 0) {}
  Dims(std::initializer_list<i64> dims) : Dims(dims.begin(), static_cast<int>(dims.size())) {}
  template <class Integer>
  Dims(const Integer* dims, int rank) : Dims(rank) {
    std::copy_n(dims, rank, begin());
  }

  int size() const { return rank_; }
  i64* begin() { return rank_ > kFew ? many_.data() : few_.data(); }
  const i64* begin() const { return rank_ > kFew ? many_.data() : few_.data(); }
  const i64* end() const { return begin() + rank_; }
  i64& operator[](int axis) { return begin()[axis]; }
  i64 operator[](int axis) const { return begin()[axis]; }
  bool operator==(const Dims& other) const { return std::equal(begin(), end(), other.begin(), other.end()); }
  bool operator!=(const Dims& other) const { return !(*this == other); }

 private:
  static constexpr int kFew = 4;
  int rank_ = 0;
  std::array<i64, kFew> few_{};
  std::vector<i64> many_;
};

}  // namespace fusedrop::arrays
