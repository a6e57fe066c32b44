// device: see device.hpp. For the emulation, emulation/device.cpp takes the place of this file.
#include "cuda/runtime/device.hpp"

#include <fstream>

#include "cuda/runtime/launch.hpp"

namespace fusedrop::cuda {
namespace {

constexpr int kOldestMajor = 8;  // the first with cp.async, and with mma.sync for bfloat16

__global__ void probe_kernel() {}  // stands for all kernels: they are compiled for the same architectures

// Whether the module has code for the current device: compiled for it, or PTX that the driver compiles.
cudaError_t find_code(cudaFuncAttributes& code) {
  const cudaError_t error = cudaFuncGetAttributes(&code, reinterpret_cast<const void*>(&probe_kernel));
  if (error != cudaSuccess) cudaGetLastError();  // clears the error, so that a later launch does not report it
  return error;
}

std::string version_text(int major, int minor) { return std::to_string(major) + "." + std::to_string(minor); }

std::string name_and_capability(const cudaDeviceProp& properties) {
  return std::string(properties.name) + ", compute capability " + version_text(properties.major, properties.minor);
}

std::string described(int device, int count) {
  cudaDeviceProp properties{};
  const cudaError_t error = cudaGetDeviceProperties(&properties, device);
  if (error != cudaSuccess) return std::string("no GPU that answers: ") + cudaGetErrorString(error);
  std::string text = name_and_capability(properties);
  if (count > 1) text += " (device " + std::to_string(device) + " of " + std::to_string(count) + ")";
  if (properties.major < kOldestMajor) return text + ": too old, compiled for 8.0 and later";
  cudaFuncAttributes code{};
  if (find_code(code) != cudaSuccess) text += ": this fusedrop was compiled for another GPU";
  return text;
}

std::string uuid_text(const cudaUUID_t& uuid) {  // as nvidia-smi -L prints it
  static const char digits[] = "0123456789abcdef";
  std::string text = "GPU";
  for (int i = 0; i < 16; ++i) {
    if (i == 0 || i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    const auto byte = static_cast<unsigned char>(uuid.bytes[i]);
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

// Of CUDA's driver: the release, where the kernel's module tells it, and the version of CUDA that it supports.
std::string driver_text() {
  int cuda = 0;
  check(cudaDriverGetVersion(&cuda), "the version of the CUDA driver");
  std::ifstream words("/proc/driver/nvidia/version");  // "... Kernel Module  580.65.06 ..."
  std::string release;
  while (words >> release && !('0' <= release[0] && release[0] <= '9')) {
  }
  if (!words) release.clear();
  return "driver " + release + (release.empty() ? "" : " ") + "for CUDA " + version_text(cuda / 1000, cuda % 1000 / 10);
}

}  // namespace

int set_device(int device) {
  int previous = 0;
  check(cudaGetDevice(&previous), "the current CUDA device");
  if (previous != device) check(cudaSetDevice(device), "the CUDA device of the arrays");
  return previous;
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

std::string device_identity(int device) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "the properties of a CUDA device");
  const int previous = set_device(device);
  cudaFuncAttributes code{};
  const cudaError_t error = find_code(code);
  set_device(previous);
  check(error, "the code for a CUDA device");
  int runtime = 0;
  check(cudaRuntimeGetVersion(&runtime), "the version of the CUDA runtime");
  const std::string machine = "sm_" + std::to_string(code.binaryVersion);
  const std::string ptx = "compute_" + std::to_string(code.ptxVersion);
  return name_and_capability(properties) + ", " + uuid_text(properties.uuid) + ", code " + machine + " of " + ptx +
         ", " + driver_text() + ", runtime " + version_text(runtime / 1000, runtime % 1000 / 10);
}

}  // namespace fusedrop::cuda
