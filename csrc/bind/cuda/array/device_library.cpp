// device_library: see device_library.hpp.
#include "bind/cuda/array/device_library.hpp"

#include <algorithm>
#include <cstdint>
#include <string>

#include "bind/array/dlpack_protocol.hpp"
#include "bind/array/text.hpp"
#include "bind/cuda/array/own_stream.hpp"
#include "cuda/runtime/kernels.hpp"

namespace fusedrop::bind::cuda {
namespace {

using fusedrop::cuda::Stream;

constexpr std::uintptr_t kAlignment = 256;  // of workspace

std::int32_t kernels_device_type() { return fusedrop::cuda::emulated() ? dlpack::kCpu : dlpack::kCuda; }

bool is_producer(const py::handle& value) {
  return py::hasattr(value, "__dlpack__") && py::hasattr(value, "__dlpack_device__");
}

dlpack::Tensor view_by(const dlpack::ExchangeApi& api, const py::handle& value) {
  dlpack::Tensor view{};
  if (api.view_of(value.ptr(), &view) != 0) throw py::error_already_set();
  return view;
}

// DLPack's number of a stream: 0 is not allowed because it is ambiguous, 1 is the legacy default stream.
py::object stream_number(Stream stream) {
  const auto number = reinterpret_cast<std::uintptr_t>(stream);
  return py::int_(number == 0 ? 1 : number);
}

py::tuple tuple_of(const Shape& shape) {
  py::tuple dims(shape.size());
  for (std::size_t d = 0; d < shape.size(); ++d) dims[d] = py::int_(shape[d]);
  return dims;
}

struct AllocationError {
  std::string kind, message;
};

dlpack::ManagedVersioned* allocate(const dlpack::ExchangeApi& api, dlpack::Tensor& prototype) {
  AllocationError failure;
  dlpack::ManagedVersioned* managed = nullptr;
  const auto refuse = [](void* context, const char* kind, const char* message) {
    *static_cast<AllocationError*>(context) = {kind, message};
  };
  if (api.allocate(&prototype, &managed, &failure, refuse) == 0) return managed;
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  py::set_error(failure.kind == "MemoryError" ? PyExc_MemoryError : PyExc_RuntimeError, failure.message.c_str());
  throw py::error_already_set();
}

}  // namespace

DeviceLibrary::DeviceLibrary(const py::handle& operand, const char* name)
    : like_(py::reinterpret_borrow<py::object>(operand)), exchange_(exchange_of(operand)) {
  if (exchange_ != nullptr && (exchange_->view_of == nullptr || exchange_->current_stream == nullptr))
    exchange_ = nullptr;
  if (exchange_ != nullptr) {
    const dlpack::Tensor view = view_by(*exchange_, operand);
    device_ = view.device;
    type_ = view.dtype;
  } else if (is_producer(operand)) {
    device_ = device_of(operand);
    adapter_ = py::module_::import("fusedrop.cuda.libraries").attr("adapter_of")(operand);
    if (adapter_.is_none()) adapter_ = {};
  } else {
    throw py::type_error(std::string(name) + " must be an array in a GPU's memory; got " + type_text(operand));
  }
  if (device_.type != kernels_device_type())
    throw py::value_error(std::string(name) + " must be in the memory of a CUDA device; got " +
                          device_text(device_, operand));
}

Stream DeviceLibrary::stream() const {
  void* stream = nullptr;
  if (exchange_ != nullptr) {
    if (exchange_->current_stream(device_.type, device_.id, &stream) != 0) throw py::error_already_set();
  } else if (adapter_ && device_.type == dlpack::kCuda) {
    stream = reinterpret_cast<void*>(adapter_.attr("stream")(device_.id).cast<std::uintptr_t>());
  } else if (!adapter_) {
    stream = own_stream(device_.id);
  }
  return stream;
}

DeviceArray DeviceLibrary::view(const py::handle& value, const char* name, Stream stream) const {
  const auto refuse_elsewhere = [&](const dlpack::Device& device) {
    if (device.type != device_.type || device.id != device_.id)
      throw py::value_error(std::string(name) + " must be on " + device_text(device_, like_) + " to match x; got " +
                            device_text(device, value));
  };
  dlpack::Tensor view{};
  if (exchange_ != nullptr && exchange_of(value) == exchange_ && exchange_view(exchange_, value, name, view)) {
    refuse_elsewhere(view.device);
    return array_from(view, value);
  }
  if (!is_producer(value))
    throw py::type_error(std::string(name) + " must be an array on " + device_text(device_, like_) + "; got " +
                         type_text(value));
  refuse_elsewhere(device_of(value));
  py::dict options;
  options["stream"] = device_.type == dlpack::kCpu ? py::object(py::none()) : stream_number(stream);
  const DLPackTensor imported = import_dlpack(value, name, options);
  return array_from(*imported.tensor, value, imported.owner, imported.read_only);
}

DeviceArray DeviceLibrary::empty(const Shape& shape, const dlpack::DataType& type, Stream stream) const {
  if (exchange_ != nullptr) {
    // A tensor that PyTorch allocates itself: record_stream does nothing for tensors around imported memory.
    static PyObject* const method = PyUnicode_InternFromString("new_empty");
    if (!same_type(type, type_) || !py::hasattr(like_, "new_empty")) return exchanged_empty(shape, type);
    PyObject* made = PyObject_CallMethodOneArg(like_.ptr(), method, tuple_of(shape).ptr());
    if (made == nullptr) throw py::error_already_set();
    const py::object array = py::reinterpret_steal<py::object>(made);
    const dlpack::ExchangeApi* api = exchange_of(array);
    if (api == nullptr) return view(array, "result", stream);
    return array_from(view_by(*api, array), array);
  }
  if (adapter_) return view(adapter_.attr("empty")(like_, tuple_of(shape), type_name(type)), "result", stream);
  return own_array(shape, type, device_, stream);
}

DeviceArray DeviceLibrary::exchanged_empty(const Shape& shape, const dlpack::DataType& type) const {
  std::vector<std::int64_t> dims(shape.begin(), shape.end());
  dlpack::Tensor prototype{nullptr, device_, static_cast<std::int32_t>(dims.size()), type, dims.data(), nullptr, 0};
  dlpack::ManagedVersioned* managed = allocate(*exchange_, prototype);
  DeviceArray made = array_from(managed->tensor, py::none());
  void* object = nullptr;
  if (exchange_->object_of(managed, &object) != 0) throw py::error_already_set();
  made.array = py::reinterpret_steal<py::object>(static_cast<PyObject*>(object));
  return made;
}

py::object DeviceLibrary::wrap(const DeviceArray& result) const {
  return result.array.is_none() ? export_own_array(result, from_dlpack_of(like_)) : result.array;
}

DeviceArray DeviceLibrary::workspace(i64 bytes, Stream stream) const {
  if (bytes == 0) return {};
  const Shape shape{static_cast<py::ssize_t>(bytes + static_cast<i64>(kAlignment) - 1)};
  DeviceArray room = exchange_ != nullptr ? exchanged_empty(shape, kByte) : empty(shape, kByte, stream);
  const auto address = reinterpret_cast<std::uintptr_t>(room.data);
  room.data = reinterpret_cast<void*>((address + kAlignment - 1) / kAlignment * kAlignment);
  return room;
}

void DeviceLibrary::defer_release(Stream stream, std::initializer_list<const DeviceArray*> operands) const {
  if (!has_stream()) release_after(stream, operands);
}

}  // namespace fusedrop::bind::cuda
