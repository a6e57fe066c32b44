// caches: the cache sizes from which block sizes are chosen; read once from the system.
#pragma once

#include "core/platform.hpp"

namespace fusedrop::cpu {

struct Caches {
  i64 l2;  // bytes of the L2 of one core
  i64 l3;  // bytes of the L3 that a group of cores shares
};

const Caches& caches();

}  // namespace fusedrop::cpu
