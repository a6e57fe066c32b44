// memory: arrays in memory that fusedrop has allocated itself, which other libraries import through DLPack; and the
// lifetime of operands whose library knows nothing of the stream that reads them.
#pragma once

#include <initializer_list>

#include "arrays/array.hpp"
#include "devices/backend.hpp"

namespace fusedrop::devices {

namespace dlpack = arrays::dlpack;
using arrays::Array;
using arrays::Dims;
using arrays::Type;

// An array of fusedrop for another library. On a device it belongs to a stream: its capsule makes the consumer's stream
// wait for the work that was launched. The host never waits.
class DeviceArray {
 public:
  DeviceArray(Array array, const DeviceBackend* backend, Stream stream)
      : array_(std::move(array)), backend_(backend), stream_(stream) {}

  const Array& array() const { return array_; }
  const DeviceBackend* backend() const { return backend_; }
  Stream stream() const { return stream_; }

  py::capsule capsule(const py::kwargs& options) const;  // __dlpack__
  // The array as the exchange functions make it; it holds a reference to the memory.
  py::object object(const dlpack::ExchangeApi& api) const;

 private:
  Array array_;
  const DeviceBackend* backend_;  // null: on the CPU
  Stream stream_;
};

// A new array in C order in the memory of a stream; the memory returns to the stream when its last user lets go.
Array new_device_array(const DeviceBackend& backend, const dlpack::Device& device, const Dims& shape, const Type& type);

// Keeps the owners of the arrays until the stream has finished its current work: their library may reuse the memory as
// soon as it is released.
void release_after(const DeviceBackend& backend, Stream stream, std::initializer_list<const Array*> operands);

void register_memory(py::module_& m);  // DeviceArray, to_device, to_host

}  // namespace fusedrop::devices
