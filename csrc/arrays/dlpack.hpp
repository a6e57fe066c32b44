// dlpack: the calls of DLPack, as the library that owns an array offers them. There are two ways: exchange functions in
// C (a table that the array's class holds), and the Python protocol (__dlpack__ and __dlpack_device__).
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "arrays/array.hpp"

namespace fusedrop::arrays {

// The exchange functions of the value's class, or null. They need no Python calls: a call with four tensors takes 20 us
// less.
const dlpack::ExchangeApi* exchange_of(const py::handle& value);

// The array by exchange functions, or nothing for one that they cannot share: import_dlpack() then raises the error
// that gives the reason. The view is valid as long as the value lives and nobody gives it other storage.
Array exchange_view(const dlpack::ExchangeApi* api, const py::handle& value, const char* name);
dlpack::Tensor exchange_tensor(const dlpack::ExchangeApi& api, const py::handle& value);  // without any check

bool supports_dlpack(const py::handle& value);  // false for NumPy's arrays: on the CPU they need no DLPack

// The array by the Python protocol, with these options of __dlpack__. Its owner is the DLPack capsule, which owns the
// storage.
Array import_dlpack(const py::handle& value, const char* name, const py::dict& options = {});

// The function from_dlpack of the value's library, which makes an array of that library; null where there is none.
py::object from_dlpack_of(const py::handle& value);

dlpack::Device device_of(const py::handle& value, const char* name);  // by __dlpack_device__
std::string device_text(const dlpack::Device& device, const py::handle& value);  // "cuda:0"

}  // namespace fusedrop::arrays
