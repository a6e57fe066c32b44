// kernels: every kernel of core/params/kernels.def, as the bindings call it: where its entry lies in the tables of the
// CPU's instruction sets and of a device.
#pragma once

#include "cpu/runtime/backend.hpp"
#include "devices/device_backend.hpp"

namespace fusedrop::bind {

template <class Args>
struct Kernel {
  void (*cpu::Backend::*cpu)(const Args&);
  void (*DeviceBackend::*device)(const Args&, const DeviceCall&) = nullptr;  // null: for the CPU only
  i64 (*DeviceWorkspace::*workspace)(const Args&, const DeviceCall&) = nullptr;
};

namespace kernels {
#define KERNEL(name, Args) inline constexpr Kernel<Args> name{&cpu::Backend::name};
#define CUDA_KERNEL(name, Args) \
  inline constexpr Kernel<Args> name{&cpu::Backend::name, &DeviceBackend::name, &DeviceWorkspace::name};
#include "core/params/kernels.def"
}  // namespace kernels

}  // namespace fusedrop::bind
