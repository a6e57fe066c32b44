// scratch: work memory, mostly for packed operands. Each part of a call's work has its own buffer. The calling thread
// keeps the buffers between calls.
//
// Part t of every call gets the same buffer, and OpenMP runs part t on the same worker, so a core packs into cache
// lines that its own cache already holds. (With one buffer that was cut into parts, whose sizes changed from call to
// call, cache lines moved from core to core; this cost as much time as the matrix product itself: docs/performance.md.)
// Buffers grow and never shrink.
#pragma once

#include "core/platform.hpp"

namespace fusedrop::cpu {

constexpr i64 kScratchAlignment = 64;

// One buffer of at least `bytes` bytes for each of `parts` parts, valid until this thread calls scratch() again. Throws
// std::bad_alloc; the caller calls it before it starts any thread.
char* const* scratch(int parts, i64 bytes);

// Offsets of the arrays in a buffer. Each array starts on a new cache line.
class ScratchLayout {
 public:
  FD_FN i64 add(i64 bytes) {
    const i64 at = size_;
    size_ += round_up(bytes, kScratchAlignment);
    return at;
  }
  FD_FN i64 size() const { return size_; }

 private:
  i64 size_ = 0;
};

}  // namespace fusedrop::cpu
