// device: the current device, and descriptions of the GPU that was found.
#pragma once

#include <string>

namespace fusedrop::cuda {

int set_device(int device);  // makes it the current device of this thread; returns the previous one

bool emulated();  // whether this build runs kernels on the host, for tests

// One line: the device found and its capability, or why no kernel can run.
std::string state();

// One line for a record of what was tested: the device with its UUID, the code that runs on it, the driver and the CUDA
// runtime. Throws std::runtime_error where there is no such device.
std::string device_identity(int device);

}  // namespace fusedrop::cuda
