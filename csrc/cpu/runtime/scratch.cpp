// scratch: see cpu/runtime/scratch.hpp.
#include "cpu/runtime/scratch.hpp"

#include <memory>
#include <new>
#include <vector>

namespace fusedrop::cpu {
namespace {

struct AlignedDelete {
  void operator()(char* data) const { ::operator delete(data, std::align_val_t{kScratchAlignment}); }
};
using Buffer = std::unique_ptr<char, AlignedDelete>;

struct Pool {
  std::vector<Buffer> buffers;
  std::vector<i64> sizes;
  std::vector<char*> addresses;

  void grow(int parts, i64 bytes) {
    const auto count = static_cast<std::size_t>(parts);
    if (buffers.size() < count) {
      sizes.resize(count, 0);
      addresses.resize(count, nullptr);
      buffers.resize(count);
    }
    for (std::size_t part = 0; part < count; ++part) {
      if (sizes[part] >= bytes) continue;
      sizes[part] = 0;
      buffers[part].reset();  // free the old buffer first: both need not fit into memory at once
      buffers[part].reset(
          static_cast<char*>(::operator new(static_cast<std::size_t>(bytes), std::align_val_t{kScratchAlignment})));
      addresses[part] = buffers[part].get();
      sizes[part] = bytes;
    }
  }
};
thread_local Pool pool;

}  // namespace

char* const* scratch(int parts, i64 bytes) {
  pool.grow(parts, bytes);
  return pool.addresses.data();
}

}  // namespace fusedrop::cpu
