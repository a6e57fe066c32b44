// device_backend: what a module with kernels for a device other than the CPU gives to the bindings: its kernels, and
// the memory and streams of its devices. fusedrop._cuda has one such table, which fusedrop.cuda registers at the first
// call with an array on a GPU (devices/backend.hpp). The table is a plain struct, so the bindings are compiled without
// CUDA.
//
// A kernel takes the struct that the CPU's kernel of that name takes. Every array lies in the device's memory; the
// bindings have checked every argument. A kernel enqueues its work on call.stream: it neither waits for the device nor
// allocates memory. The caller passes call.workspace: its size in bytes is returned by the function of the same name in
// `workspace`, its address is a multiple of 256. Errors of the CUDA runtime become std::runtime_error.
//
// Unit dropout finds its active columns on the device. `outputs`, `inputs` and `input_scale` are therefore not read:
// the masks say what is dropped, and call.active_inputs (one byte per column of x, or null) which columns of x may be
// other than zero.
#pragma once

#include "core/params/elementwise.hpp"
#include "core/params/linear.hpp"

namespace fusedrop {

using Stream = void*;  // a cudaStream_t, without the header of the CUDA runtime

struct DeviceCall {
  Stream stream = nullptr;
  void* workspace = nullptr;
  const bool* active_inputs = nullptr;  // [K]; false where a column of x is known to be zero
  bool tf32 = false;  // float32 products in TF32
};

struct DeviceWorkspace {  // the bytes of call.workspace that a call needs
#define KERNEL(name, Args)
#define CUDA_KERNEL(name, Args) i64 (*name)(const Args& args, const DeviceCall& call);
#include "core/params/kernels.def"
};

struct DeviceBackend {
  static constexpr const char* capsule_name = "fusedrop.DeviceBackend";

  const char* version;  // of fusedrop: both modules must be of one build
  int device_type;  // of DLPack: CUDA, or the CPU where kernels are emulated for tests

#define KERNEL(name, Args)
#define CUDA_KERNEL(name, Args) void (*name)(const Args& args, const DeviceCall& call);
#include "core/params/kernels.def"
  DeviceWorkspace workspace;

  int (*set_device)(int device);  // makes it the current device of this thread; returns the previous one
  Stream (*own_stream)(int device);  // one per device, never destroyed
  void* (*allocate)(i64 bytes, Stream stream);  // usable by work enqueued on `stream` after this call; null for 0 bytes
  void (*release)(void* data, Stream stream);
  void (*copy)(void* to, const void* from, i64 bytes,
               Stream stream);  // between device and host; waits until it is done
  // An event marks all work that a stream had been given. The host never waits for one.
  void* (*record)(Stream stream);
  bool (*completed)(void* event);
  void (*wait)(void* event, Stream stream);  // work enqueued on `stream` after this call waits for the event
  void (*destroy)(void* event);
};

}  // namespace fusedrop
