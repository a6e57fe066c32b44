// caches: see cpu/runtime/caches.hpp.
#include "cpu/runtime/caches.hpp"

#if defined(__linux__)
#include <unistd.h>
#endif

namespace fusedrop::cpu {
namespace {

Caches read_caches() {
  Caches found{512 << 10, 8 << 20};  // a small core: used where the system reports no size, or 0 as in some containers
#if defined(_SC_LEVEL2_CACHE_SIZE) && defined(_SC_LEVEL3_CACHE_SIZE)
  if (const long l2 = sysconf(_SC_LEVEL2_CACHE_SIZE); l2 > 0) found.l2 = l2;
  if (const long l3 = sysconf(_SC_LEVEL3_CACHE_SIZE); l3 > 0) found.l3 = l3;
#endif
  return found;
}

}  // namespace

const Caches& caches() {
  static const Caches found = read_caches();
  return found;
}

}  // namespace fusedrop::cpu
