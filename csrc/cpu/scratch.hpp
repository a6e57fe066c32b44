// scratch: packing memory, kept between calls by the thread that calls; it only grows, and goes with its thread.
#pragma once

#include "core/platform.hpp"

namespace fusedrop::cpu {

constexpr i64 kScratchAlignment = 64;

// At least `bytes` of memory, valid until this thread's next call. Throws std::bad_alloc, before any thread has
// started.
void* scratch(i64 bytes);

// Parts of one buffer, each on a cache line of its own.
class ScratchLayout {
 public:
  FD_FN i64 add(i64 bytes) {
    const i64 at = size_;
    size_ += (bytes + kScratchAlignment - 1) / kScratchAlignment * kScratchAlignment;
    return at;
  }
  FD_FN i64 size() const { return size_; }

 private:
  i64 size_ = 0;
};

}  // namespace fusedrop::cpu
