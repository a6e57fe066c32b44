// runtime: the current device, and a description of the GPU that was found.
#include "cuda/runtime/kernels.hpp"
#include "cuda/runtime/launch.hpp"

namespace fusedrop::cuda {

#if defined(__CUDACC__)
namespace {

constexpr int kOldestMajor = 8;  // the first with cp.async, and with mma.sync for bfloat16

std::string described(int device, int count) {
  cudaDeviceProp properties{};
  const cudaError_t error = cudaGetDeviceProperties(&properties, device);
  if (error != cudaSuccess) return std::string("no GPU that answers: ") + cudaGetErrorString(error);
  std::string text = std::string(properties.name) + ", compute capability " + std::to_string(properties.major) + "." +
                     std::to_string(properties.minor);
  if (count > 1) text += " (device " + std::to_string(device) + " of " + std::to_string(count) + ")";
  if (properties.major < kOldestMajor) text += ": too old, compiled for 8.0 and later";
  return text;
}

}  // namespace

DeviceGuard::DeviceGuard(int device) {
  int current = 0;
  check(cudaGetDevice(&current), "the current CUDA device");
  if (current == device) return;
  check(cudaSetDevice(device), "the CUDA device of the arrays");
  previous_ = current;
}

DeviceGuard::~DeviceGuard() {
  if (previous_ >= 0) cudaSetDevice(previous_);
}

bool emulated() { return false; }

std::string state() {
  int count = 0, device = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) error = cudaGetDevice(&device);
  if (error == cudaSuccess && count > 0) return described(device, count);
  cudaGetLastError();  // clears the error, so that a later launch does not report it
  int driver = 0;
  cudaDriverGetVersion(&driver);
  if (driver == 0) return "no GPU found: no NVIDIA driver is installed";  // CUDA reports an insufficient driver here
  return std::string("no GPU found: ") + cudaGetErrorString(error == cudaSuccess ? cudaErrorNoDevice : error);
}

#else

DeviceGuard::DeviceGuard(int) {}
DeviceGuard::~DeviceGuard() = default;

bool emulated() { return true; }
std::string state() { return "emulated on the CPU, for tests"; }

#endif

}  // namespace fusedrop::cuda
