// cuda_bf16: the one conversion that the kernels use, on the host.
#pragma once

#include <cuda_runtime.h>

#include "core/dtypes.hpp"

struct __nv_bfloat162 {
  fusedrop::bfloat16 x, y;
};
inline __nv_bfloat162 __float22bfloat162_rn(float2 value) {
  __nv_bfloat162 pair;
  fusedrop::narrow(value.x, pair.x);
  fusedrop::narrow(value.y, pair.y);
  return pair;
}
