// backend: the device module that is registered (devices/device_backend.hpp), and what Python connects to it.
#pragma once

#include <pybind11/pybind11.h>

#include <exception>
#include <string>

#include "devices/device_backend.hpp"

namespace fusedrop::devices {

namespace py = pybind11;

const DeviceBackend* registered_backend();  // null: no device module is loaded

// The backend for the memory of a CUDA device. Loads the device module at the first such call; ImportError without one.
const DeviceBackend& load_backend();

// Before the first use of a kernel on a device, fusedrop.cuda compares it with the CPU there. It raises RuntimeError
// for a kernel that computes something else. Kernels are named by topic and element type: "linear float32".
void require_verified(int device, const std::string& kernel);

bool is_verifying();  // whether this thread runs such a comparison now

py::object adapter_of(const py::handle& array);  // fusedrop/cuda/libraries.py; null without one
bool is_device_philox(const py::handle& rng);

void register_backend(py::module_& m);

class DeviceGuard {  // makes a device the current one, for the lifetime of this object
 public:
  DeviceGuard(const DeviceBackend& backend, int device) : backend_(backend), previous_(backend.set_device(device)) {}
  ~DeviceGuard() {
    try {
      backend_.set_device(previous_);
    } catch (const std::exception&) {  // the device is lost: the next call reports it
    }
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  const DeviceBackend& backend_;
  int previous_;
};

}  // namespace fusedrop::devices
