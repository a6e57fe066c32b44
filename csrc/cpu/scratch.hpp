// scratch: packing memory, a buffer for each part of a call's work, kept between calls by the thread that calls.
//
// Part t of every call gets the same buffer, and OpenMP gives part t to the same worker: what a core packs lands in lines
// that its own cache already holds. (One buffer cut into parts whose size changes from call to call was seen to cost as
// much as the matmul itself, in lines moving from core to core: docs/performance.md.) Buffers only grow.
#pragma once

#include "core/platform.hpp"

namespace fusedrop::cpu {

constexpr i64 kScratchAlignment = 64;

// One buffer of at least `bytes` for each of `parts`, valid until this thread's next call. Throws std::bad_alloc, before
// any thread has started.
char* const* scratch(int parts, i64 bytes);

// Offsets of a buffer's arrays, each on a cache line of its own.
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
