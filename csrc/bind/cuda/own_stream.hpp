// own_stream: work for a library that does not tell its current stream (JAX). It runs on a stream of ours: producers
// order their work before it (__dlpack__(stream=...)), and a result is an array in memory of that stream, whose capsule
// makes the consumer's stream wait for what was launched. The host waits for nothing.
#pragma once

#include "bind/cuda/operand.hpp"
#include "cuda/stream.hpp"

namespace fusedrop::bind::cuda {

fusedrop::cuda::Stream own_stream(int device);

// Its `array` is None: what the caller gets is made by `exported`, after the launch.
Operand own_array(const Shape& shape, const dlpack::DataType& type, const dlpack::Device& device,
                  fusedrop::cuda::Stream stream);
py::object exported(const Operand& result, const py::object& from_dlpack);

// Keeps the operands until the stream has done what it was given: their library may reuse what is let go.
void hold(fusedrop::cuda::Stream stream, std::initializer_list<const Operand*> operands);

void register_own_stream(py::module_& m);

}  // namespace fusedrop::bind::cuda
