// kernels: the functions that the bindings call. Every array is in device memory, and the bindings have checked every
// argument. No function waits for the device or allocates memory: the caller passes `workspace`, whose size in bytes is
// returned by the ..._workspace function and whose address is a multiple of 256. Errors of the CUDA runtime become
// std::runtime_error.
//
// The structs are the CPU's (core/params/linear.hpp). Unit dropout is the exception: its active columns are found on
// the device. `outputs`, `inputs` and `input_scale` are therefore not read; mask and input_mask say what is dropped,
// and active_inputs (one byte per column of x, or null) says which columns of x may be other than zero.
#pragma once

#include <string>

#include "core/params/elementwise.hpp"
#include "core/params/linear.hpp"
#include "cuda/runtime/stream.hpp"

namespace fusedrop::cuda {

struct Call {
  Stream stream = nullptr;
  void* workspace = nullptr;
  const bool* active_inputs = nullptr;  // [K]; false where a column of x is known to be zero
  bool tf32 = false;  // float32 products in TF32
};

i64 linear_forward_workspace(const LinearForwardArgs& args, const Call& call);
void linear_forward(const LinearForwardArgs& args, const Call& call);

i64 linear_backward_workspace(const LinearBackwardArgs& args, const Call& call);
void linear_backward(const LinearBackwardArgs& args, const Call& call);

void dropout(const DropoutArgs& args, Stream stream);
void dropout_mask(const DropoutMaskArgs& args, Stream stream);
void activation(const ActivationArgs& args, Stream stream);

// Sets the current device for the lifetime of this object, then restores the previous one.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int previous_ = -1;
};

bool emulated();  // whether this build runs kernels on the host, for tests
// One line: the device found, its capability and what the module was compiled for, or why none works.
std::string state();

}  // namespace fusedrop::cuda
