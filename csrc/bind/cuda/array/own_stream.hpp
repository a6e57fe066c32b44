// own_stream: work for a library that does not expose its current stream (JAX). It runs on a stream of fusedrop's own.
// The producers of the arguments order their work before it (__dlpack__(stream=...)). A result is an array in memory of
// that stream; its capsule makes the consumer's stream wait for the work that was launched. The host never waits.
#pragma once

#include "bind/cuda/array/device_array.hpp"
#include "cuda/runtime/stream.hpp"

namespace fusedrop::bind::cuda {

fusedrop::cuda::Stream own_stream(int device);

// Its `array` is None: export_own_array() creates the caller's object, after the launch.
DeviceArray own_array(const Shape& shape, const dlpack::DataType& type, const dlpack::Device& device,
                      fusedrop::cuda::Stream stream);
py::object export_own_array(const DeviceArray& result, const py::object& from_dlpack);

// Keeps the arrays until the stream has finished its current work: their library may reuse memory as soon as it is
// released.
void release_after(fusedrop::cuda::Stream stream, std::initializer_list<const DeviceArray*> operands);

void register_own_stream(py::module_& m);

}  // namespace fusedrop::bind::cuda
