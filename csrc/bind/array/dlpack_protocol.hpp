// dlpack_protocol: the calls of DLPack, as the library that owns an array offers them. Shared by the CPU's and CUDA's
// bindings. There are two ways: exchange functions in C (a table that the array's class holds), and the Python protocol
// (__dlpack__ and __dlpack_device__).
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "bind/array/dlpack_abi.hpp"

namespace fusedrop::bind {

namespace py = pybind11;

// The exchange functions of the value's class, or null. They need no Python calls: a call with four tensors takes 20 us
// less.
const dlpack::ExchangeApi* exchange_of(const py::handle& value);

// Fills `view`, which is valid as long as the value lives. False for an array that the exchange functions cannot share:
// import_dlpack() then raises the error that gives the reason.
bool exchange_view(const dlpack::ExchangeApi* api, const py::handle& value, const char* name, dlpack::Tensor& view);

bool supports_dlpack(const py::handle& value);  // false for NumPy's arrays: on the CPU they need no DLPack

// A tensor imported by the Python protocol. When `owner` is destroyed, the tensor is returned to the exporting library.
struct DLPackTensor {
  const dlpack::Tensor* tensor;
  py::object owner;
  bool read_only;
};
DLPackTensor import_dlpack(const py::handle& value, const char* name, py::dict options = {});  // options of __dlpack__

// The function from_dlpack of the value's library, which makes an array of that library; null where there is none.
py::object from_dlpack_of(const py::handle& value);

dlpack::Device device_of(const py::handle& value);  // by __dlpack_device__
std::string device_text(const dlpack::Device& device, const py::handle& value);  // "cuda:0"

}  // namespace fusedrop::bind
