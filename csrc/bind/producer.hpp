// producer: what an array of another library offers DLPack's consumers, for the CPU's bindings and CUDA's.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "bind/dlpack_abi.hpp"

namespace fusedrop::bind {

namespace py = pybind11;

// The fast way, without Python calls, where the value's class offers it: 20 us less a call with four tensors.
const dlpack::ExchangeApi* exchange_of(const py::handle& value);

// The view that exchange functions give, as long as the value lives; false for what they cannot share, which is left to
// the protocol: it says why.
bool exchange_view(const dlpack::ExchangeApi* api, const py::handle& value, const char* name, dlpack::Tensor& view);

bool speaks_dlpack(const py::handle& value);  // not NumPy's arrays, which need no DLPack on the CPU

// What the protocol hands over; the producer gets its tensor back with the owner's end.
struct Loan {
  const dlpack::Tensor* tensor;
  py::object owner;
  bool read_only;
};
Loan borrow(const py::handle& value, const char* name, py::dict options = {});  // more arguments of __dlpack__

// The function that turns a DLPack producer into an array of this value's library; none where there is no such function.
py::object from_dlpack_of(const py::handle& value);

dlpack::Device device_of(const py::handle& value);  // by the protocol
std::string device_text(const dlpack::Device& device, const py::handle& value);  // "cuda:0"

}  // namespace fusedrop::bind
