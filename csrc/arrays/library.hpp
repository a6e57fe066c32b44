// library: the array library of a call's first array. It decides where the call runs and who makes its results.
//
//   NumPy                results are NumPy arrays
//   exchange functions   PyTorch 2.10 and later: DLPack's C table
//   adapter              fusedrop/cuda/libraries.py, for devices: CuPy, older PyTorch
//   from_dlpack          every other library with DLPack; on a device, work runs on a stream of fusedrop's own
//
// On the CPU all new arrays lie in memory of NumPy, and wrap() hands them to the library.
#pragma once

#include "arrays/array.hpp"
#include "devices/device_backend.hpp"

namespace fusedrop::arrays {

enum class RunsOn { cpu_only, any_device };

constexpr const char* kFloatingTypes = "float32, float64 or bfloat16";

struct Argument {
  const py::handle& value;
  const char* name;
  const char* types;  // what it must be an array of, for the error about a value that is no array
};

class Library {
 public:
  Library() = default;
  Library(const py::handle& operand, const char* name, RunsOn runs_on = RunsOn::any_device);

  const DeviceBackend* backend() const { return backend_; }  // null: the call runs on the CPU
  const dlpack::Device& device() const { return device_; }
  Stream stream() const;  // the current one, at the time of the call
  bool has_stream() const { return exchange_ != nullptr || adapter_; }

  // A view of an argument where the call runs, ready for work on `stream`; on the CPU it may be a copy, see numpy.hpp.
  // TypeError for a value that is no array. The caller checks the type.
  Array view(const Argument& argument, Stream stream) const;

  // A new array in C order with unspecified contents. wrap() returns its object for the caller, after the launch.
  Array empty(const Dims& shape, const Type& type, Stream stream) const;
  Array workspace(i64 bytes, Stream stream) const;  // on a device; its address is a multiple of 256
  py::object wrap(const Array& result) const;  // None for no array

 private:
  void find_cpu_library(const py::handle& operand);
  void find_device_library(const py::handle& operand, const char* name);
  Array device_view(const Argument& argument, Stream stream) const;
  Array exchanged_empty(const Dims& shape, const Type& type) const;

  bool numpy_ = false;
  py::object like_;  // NumPy: the dtype of the first array; on a device: that array
  Type type_{};
  const dlpack::ExchangeApi* exchange_ = nullptr;
  py::object from_dlpack_, adapter_;
  const DeviceBackend* backend_ = nullptr;
  dlpack::Device device_{dlpack::kCpu, 0};
  std::string where_;  // the device's name in errors: "cuda:0"
};

}  // namespace fusedrop::arrays
