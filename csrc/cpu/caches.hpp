// caches: the sizes that blocking follows, read once from the system.
#pragma once

#include "core/platform.hpp"

namespace fusedrop::cpu {

struct Caches {
  i64 l2;  // bytes of one core's
  i64 l3;  // bytes shared by the cores of a group
};

const Caches& caches();

}  // namespace fusedrop::cpu
