// device_library: the array library of a call's first operand. It provides the current stream, views of arrays, and new
// arrays for results and workspace.
//
//   exchange functions   PyTorch 2.10 and later: DLPack's C table; Python is called only to create results
//   adapter              fusedrop/cuda/libraries.py: CuPy, older PyTorch; NumPy in the emulated build
//   neither              JAX: a stream of fusedrop's own, see own_stream.hpp
#pragma once

#include <pybind11/pybind11.h>

#include "bind/cuda/array/device_array.hpp"
#include "cuda/runtime/stream.hpp"

namespace fusedrop::bind::cuda {

class DeviceLibrary {
 public:
  DeviceLibrary() = default;
  // The operand must be in the memory of a device that this build's kernels run on.
  DeviceLibrary(const py::handle& operand, const char* name);

  int device() const { return device_.id; }
  fusedrop::cuda::Stream stream() const;  // the current one, at the time of the call

  // A view of an argument on the same device, ready for work on `stream`.
  DeviceArray view(const py::handle& value, const char* name, fusedrop::cuda::Stream stream) const;

  // A new array in C order with unspecified contents. After all work is launched, wrap() returns the object for the
  // caller.
  DeviceArray empty(const Shape& shape, const dlpack::DataType& type, fusedrop::cuda::Stream stream) const;
  py::object wrap(const DeviceArray& result) const;

  DeviceArray workspace(i64 bytes, fusedrop::cuda::Stream stream) const;  // its address is a multiple of 256

  // Call this after a launch. It keeps the arrays of the launch alive until the kernel has run, even if the caller
  // releases them. It does nothing for libraries with a current stream, whose allocators order reuse by stream.
  void defer_release(fusedrop::cuda::Stream stream, std::initializer_list<const DeviceArray*> operands) const;

 private:
  DeviceArray exchanged_empty(const Shape& shape, const dlpack::DataType& type) const;
  bool has_stream() const { return exchange_ != nullptr || adapter_; }

  dlpack::Device device_{};
  dlpack::DataType type_{};
  py::object like_;  // the first operand
  const dlpack::ExchangeApi* exchange_ = nullptr;
  py::object adapter_;
};

}  // namespace fusedrop::bind::cuda
