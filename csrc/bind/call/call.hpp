// call: one call of a kernel: the views of its arguments, its results, and the launch. An Array is a pointer with a
// type, a shape and strides (arrays/array.hpp), whatever library and device it comes from.
#pragma once

#include "arrays/library.hpp"
#include "bind/call/kernels.hpp"
#include "cpu/runtime/dispatch.hpp"
#include "devices/backend.hpp"
#include "devices/memory.hpp"

namespace fusedrop::bind {

using namespace arrays;
using namespace devices;

class Call {
 public:
  // The library of this call's first array, or of the forward call whose context this call takes. It must outlive this.
  explicit Call(const Library& library) : library_(library), stream_(library.stream()) {}

  bool on_device() const { return library_.backend() != nullptr; }

  // An array of any type; `types` is for the error about a value that is none.
  Array view(const py::handle& value, const char* name, const char* types = kFloatingTypes) const {
    return library_.view({value, name, types}, stream_);
  }
  // An array of a type that kernels compute with, aligned to its elements.
  Array floating(const py::handle& value, const char* name) const;
  // The same of the type of another argument.
  Array like(const py::handle& value, const char* name, const Array& other, const char* other_name) const;
  // b [N], where w has N rows or output channels; no array for None.
  Array bias(const py::handle& value, const Array& x, const Array& w) const;
  // The caller's array for a result.
  Array output(const py::handle& value, const char* name, const char* dims, const Dims& shape, const Type& type) const;

  Array empty(const Dims& shape, const Type& type) const { return library_.empty(shape, type, stream_); }
  py::object wrap(const Array& result) const { return library_.wrap(result); }

  // On a device: RuntimeError where the results of a kernel are not the CPU's. name() returns the kernel's name.
  template <class Name>
  void require_verified(Name name) const {
    if (on_device()) devices::require_verified(library_.device().id, name());
  }

  // Runs the kernel without the GIL. kernels::linear_forward stands for the functions linear_forward of
  // csrc/cpu/linear, one for each instruction set, and of csrc/cuda/linear; cpu::backend() is the table of the
  // instruction set in use. `operands` are the arrays that the kernel reads and writes: on a device they must outlive
  // it.
  template <class Args>
  void run(const Kernel<Args>& kernel, const Args& args, std::initializer_list<const Array*> operands,
           DeviceCall device_call = {}) const {
    if (!on_device()) {
      py::gil_scoped_release release;
      return (cpu::backend().*kernel.cpu)(args);
    }
    const DeviceBackend& backend = *library_.backend();
    const DeviceGuard guard(backend, library_.device().id);
    device_call.stream = stream_;
    const Array workspace = library_.workspace((backend.workspace.*kernel.workspace)(args, device_call), stream_);
    device_call.workspace = workspace.data;
    {
      py::gil_scoped_release release;
      (backend.*kernel.device)(args, device_call);
    }
    // The allocators of libraries with a current stream order reuse by stream.
    if (!library_.has_stream()) release_after(backend, stream_, operands);
  }

 private:
  const Library& library_;
  Stream stream_;
};

}  // namespace fusedrop::bind
