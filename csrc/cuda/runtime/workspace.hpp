// workspace: divides a call's workspace into pieces. The same code runs twice: first to count the bytes, then to use
// them.
#pragma once

#include <cstddef>

#include "core/platform.hpp"

namespace fusedrop::cuda {

class Workspace {
 public:
  Workspace(void* base, bool counting) : base_(static_cast<char*>(base)), counting_(counting) {}

  template <class T>
  T* take(i64 count) {
    T* piece = counting_ ? nullptr : reinterpret_cast<T*>(base_ + used_);
    used_ += round_up(count * static_cast<i64>(sizeof(T)), kAlignment);
    return piece;
  }
  bool counting() const { return counting_; }
  i64 used() const { return used_; }

 private:
  static constexpr i64 kAlignment = 256;
  char* base_;
  bool counting_;
  i64 used_ = 0;
};

}  // namespace fusedrop::cuda
