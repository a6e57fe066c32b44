// kernels: what the bindings call. Every array lies in device memory, everything is checked before it gets here, nothing
// waits for the device or allocates: the caller lends `workspace`, as many bytes as the function of that name says, at a
// multiple of 256. Errors of the CUDA runtime are std::runtime_error.
//
// The structs are the CPU's (core/args.hpp) but for unit dropout, whose kept columns are found on the device: `outputs`,
// `inputs` and `input_scale` are not read, mask and input_mask say what is dropped, and known_inputs (a byte a column of
// x, or null) which columns are known to be zero.
#pragma once

#include <string>

#include "core/args.hpp"
#include "cuda/stream.hpp"

namespace fusedrop::cuda {

struct Call {
  Stream stream = nullptr;
  void* workspace = nullptr;
  const bool* known_inputs = nullptr;  // [K]
  bool tf32 = false;  // float32 products in TF32
};

i64 linear_forward_workspace(const LinearForwardArgs& args, const Call& call);
void linear_forward(const LinearForwardArgs& args, const Call& call);

i64 linear_backward_workspace(const LinearBackwardArgs& args, const Call& call);
void linear_backward(const LinearBackwardArgs& args, const Call& call);

void dropout(const DropoutArgs& args, Stream stream);
void dropout_mask(const DropoutMaskArgs& args, Stream stream);
void activation(const ActivationArgs& args, Stream stream);

// The device that calls run on: set for the life of this object, the former one again after it.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int before_ = -1;
};

bool emulated();  // this build runs kernels on the host, for tests
std::string
state();  // one line: the device found, its capability and what the module was compiled for, or why none works

}  // namespace fusedrop::cuda
