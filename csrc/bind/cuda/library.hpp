// library: the library that a call's first operand comes from. It says the current stream, shares arrays, and makes those
// for results and workspace.
//
//   exchange functions   PyTorch 2.10 and later: DLPack's C table, no Python call but for results
//   adapter              fusedrop/cuda_libraries.py: CuPy, older PyTorch; NumPy in the emulated build
//   neither              JAX: a stream of ours, see own_stream.hpp
#pragma once

#include <pybind11/pybind11.h>

#include "bind/cuda/operand.hpp"
#include "cuda/stream.hpp"

namespace fusedrop::bind::cuda {

class Library {
 public:
  Library() = default;
  Library(const py::handle& operand, const char* name);  // which must lie on a device that this build's kernels run on

  int device() const { return device_.id; }
  fusedrop::cuda::Stream stream() const;  // the current one, at this moment

  // An argument of the same device, ready for work on `stream`.
  Operand view(const py::handle& value, const char* name, fusedrop::cuda::Stream stream) const;

  // An array in C order whose contents are unspecified; `finish` makes it the caller's, once all work is launched.
  Operand empty(const Shape& shape, const dlpack::DataType& type, fusedrop::cuda::Stream stream) const;
  py::object finish(const Operand& result) const;

  Operand workspace(i64 bytes, fusedrop::cuda::Stream stream) const;  // at a multiple of 256

  // To be called after a launch: what it reads must not be reused before it ran, though the caller lets go.
  void launched(fusedrop::cuda::Stream stream, std::initializer_list<const Operand*> operands) const;

 private:
  Operand exchanged_empty(const Shape& shape, const dlpack::DataType& type) const;
  bool has_stream() const { return exchange_ != nullptr || adapter_; }

  dlpack::Device device_{};
  dlpack::DataType type_{};
  py::object like_;  // the operand itself
  const dlpack::ExchangeApi* exchange_ = nullptr;
  py::object adapter_;
};

}  // namespace fusedrop::bind::cuda
