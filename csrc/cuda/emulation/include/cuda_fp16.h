// cuda_fp16: the one conversion that the kernels use, on the host.
#pragma once

#include <cuda_runtime.h>

#include "core/dtypes.hpp"

struct __half2 {
  fusedrop::float16 x, y;
};
inline __half2 __float22half2_rn(float2 value) {
  __half2 pair;
  fusedrop::narrow(value.x, pair.x);
  fusedrop::narrow(value.y, pair.y);
  return pair;
}
