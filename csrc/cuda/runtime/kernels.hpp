// kernels: the kernels of core/params/kernels.def for CUDA. devices/device_backend.hpp says what they require.
#pragma once

#include "devices/device_backend.hpp"

namespace fusedrop::cuda {

#define KERNEL(name, Args)
#define CUDA_KERNEL(name, Args)                        \
  void name(const Args& args, const DeviceCall& call); \
  i64 name##_workspace(const Args& args, const DeviceCall& call);
#include "core/params/kernels.def"

}  // namespace fusedrop::cuda
