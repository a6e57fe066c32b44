// scratch: see scratch.hpp.
#include "cpu/scratch.hpp"

#include <new>

namespace fusedrop::cpu {
namespace {

struct Buffer {
  void* data = nullptr;
  i64 bytes = 0;
  ~Buffer() { release(); }
  void release() {
    ::operator delete(data, std::align_val_t{kScratchAlignment});
    data = nullptr;
    bytes = 0;
  }
};
thread_local Buffer buffer;

}  // namespace

void* scratch(i64 bytes) {
  if (bytes > buffer.bytes) {
    buffer.release();
    buffer.data = ::operator new(static_cast<std::size_t>(bytes), std::align_val_t{kScratchAlignment});
    buffer.bytes = bytes;
  }
  return buffer.data;
}

}  // namespace fusedrop::cpu
