// emulation/device: the functions of cuda/runtime/device.hpp on the host.
#include "cuda/runtime/device.hpp"

#include "cuda/runtime/launch.hpp"

namespace fusedrop::cuda {

int set_device(int device) {
  check(cudaSetDevice(device), "the device of the arrays");
  return 0;
}

bool emulated() { return true; }
std::string state() { return "emulated on the CPU, for tests"; }

std::string device_identity(int device) {
  check(cudaSetDevice(device), "the properties of a device");
  return state();
}

}  // namespace fusedrop::cuda
