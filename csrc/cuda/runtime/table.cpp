// table: see table.hpp. The host compiler compiles it, without CUDA's headers.
#include "cuda/runtime/table.hpp"

#include "cuda/runtime/device.hpp"
#include "cuda/runtime/kernels.hpp"
#include "cuda/runtime/streams.hpp"

namespace fusedrop::cuda {
namespace {

constexpr int kDLCPU = 1, kDLCUDA = 2;  // DLPack's numbers

DeviceBackend make_table() {
  DeviceBackend table{};
  table.version = FUSEDROP_VERSION;
  table.device_type = emulated() ? kDLCPU : kDLCUDA;
#define KERNEL(name, Args)
#define CUDA_KERNEL(name, Args) \
  table.name = &name;           \
  table.workspace.name = &name##_workspace;
#include "core/params/kernels.def"
  table.set_device = &set_device;
  table.own_stream = &own_stream;
  table.allocate = &allocate;
  table.release = &release;
  table.copy = &copy;
  table.record = &record;
  table.completed = &completed;
  table.wait = &wait;
  table.destroy = &destroy;
  return table;
}

}  // namespace

const DeviceBackend& backend() {
  static const DeviceBackend table = make_table();
  return table;
}

}  // namespace fusedrop::cuda
