// library: see library.hpp.
#include "arrays/library.hpp"

#include <cstdint>

#include "arrays/dlpack.hpp"
#include "arrays/numpy.hpp"
#include "devices/backend.hpp"
#include "devices/memory.hpp"

namespace fusedrop::arrays {

using namespace devices;

namespace {

constexpr std::uintptr_t kAlignment = 256;  // of workspace

// DLPack's number of a stream: 0 is not allowed because it is ambiguous, 1 is the legacy default stream.
py::object stream_number(Stream stream) {
  const auto number = reinterpret_cast<std::uintptr_t>(stream);
  return py::int_(number == 0 ? 1 : number);
}

py::tuple tuple_of(const Dims& shape) {
  py::tuple dims(shape.size());
  for (int d = 0; d < shape.size(); ++d) dims[static_cast<std::size_t>(d)] = py::int_(shape[d]);
  return dims;
}

dlpack::ManagedVersioned* allocate(const dlpack::ExchangeApi& api, dlpack::Tensor& prototype) {
  struct Failure {
    std::string kind, message;
  } failure;
  dlpack::ManagedVersioned* managed = nullptr;
  const auto refuse = [](void* context, const char* kind, const char* message) {
    *static_cast<Failure*>(context) = {kind, message};
  };
  if (api.allocate(&prototype, &managed, &failure, refuse) == 0) return managed;
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  py::set_error(failure.kind == "MemoryError" ? PyExc_MemoryError : PyExc_RuntimeError, failure.message.c_str());
  throw py::error_already_set();
}

// The device of a value that is no NumPy array; the CPU for a value that is no array.
dlpack::Device find_device(const py::handle& value, const char* name) {
  const dlpack::ExchangeApi* api = exchange_of(value);
  dlpack::Tensor view{};
  if (api != nullptr && api->view_of != nullptr) {
    if (api->view_of(value.ptr(), &view) == 0) return view.device;
    discard_error();
  }
  if (PyBool_Check(value.ptr()) || value.is_none() || !supports_dlpack(value)) return {dlpack::kCpu, 0};
  return device_of(value, name);
}

const DeviceBackend& required_backend(const py::handle& operand, const char* name) {
  try {
    return load_backend();
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_ImportError)) throw;
    const std::string text = std::string(name) + " must be on the CPU, this fusedrop has no CUDA module (" +
                             py::str(error.value()).cast<std::string>() + "); got " +
                             device_text(device_of(operand, name), operand);
    py::raise_from(error, PyExc_ValueError, text.c_str());
    throw py::error_already_set();
  }
}

// A view of an argument in the CPU's memory.
Array cpu_view(const Argument& argument) {
  const auto& [value, name, types] = argument;
  if (is_numpy(value)) {
    if (Array a = numpy_view(value)) return a;
    throw py::type_error(std::string(name) + " must be a NumPy array of " + types + "; got " +
                         (py::hasattr(value, "mask") ? type_text(value) : numpy_dtype_text(value)));
  }
  if (const dlpack::ExchangeApi* api = exchange_of(value))
    if (Array a = exchange_view(api, value, name); a && a.device.type == dlpack::kCpu) return a;
  if (value.is_none() || PyBool_Check(value.ptr()) || !supports_dlpack(value))
    throw py::type_error(std::string(name) + " must be a NumPy array of " + types + "; got " + type_text(value));
  const dlpack::Device device = device_of(value, name);
  if (device.type != dlpack::kCpu)
    throw py::value_error(std::string(name) + " must be on the CPU, this call runs there only; got " +
                          device_text(device, value));
  return import_dlpack(value, name);
}

}  // namespace

Library::Library(const py::handle& operand, const char* name, RunsOn runs_on) {
  if (is_numpy(operand)) {
    numpy_ = true;
    like_ = py::reinterpret_borrow<py::object>(numpy_dtype(operand));
    return;
  }
  const dlpack::Device device = find_device(operand, name);
  const DeviceBackend* backend = registered_backend();
  const bool emulated = backend != nullptr && backend->device_type == device.type && supports_dlpack(operand);
  if (runs_on == RunsOn::cpu_only || (device.type != dlpack::kCuda && !emulated)) {
    find_cpu_library(operand);
    return;
  }
  backend_ = backend != nullptr ? backend : &required_backend(operand, name);
  device_ = device;
  find_device_library(operand, name);
}

void Library::find_cpu_library(const py::handle& operand) {
  exchange_ = exchange_of(operand);
  if (exchange_ == nullptr && supports_dlpack(operand)) from_dlpack_ = from_dlpack_of(operand);
  numpy_ = exchange_ == nullptr && !from_dlpack_;
}

void Library::find_device_library(const py::handle& operand, const char* name) {
  like_ = py::reinterpret_borrow<py::object>(operand);
  where_ = device_text(device_, operand);
  if (device_.type != backend_->device_type)
    throw py::value_error(std::string(name) + " must be in the memory of a device of the registered module; got " +
                          where_);
  exchange_ = exchange_of(operand);
  if (exchange_ != nullptr && (exchange_->view_of == nullptr || exchange_->current_stream == nullptr))
    exchange_ = nullptr;
  if (exchange_ != nullptr) {
    type_ = exchange_tensor(*exchange_, operand).dtype;
  } else if (!py::isinstance<DeviceArray>(operand)) {
    adapter_ = adapter_of(operand);
    from_dlpack_ = from_dlpack_of(operand);
  }
}

Stream Library::stream() const {
  if (backend_ == nullptr) return nullptr;
  if (!has_stream()) {
    const DeviceGuard guard(*backend_, device_.id);
    return backend_->own_stream(device_.id);
  }
  void* stream = nullptr;
  if (device_.type != dlpack::kCuda) return stream;  // emulated
  if (exchange_ == nullptr) return reinterpret_cast<Stream>(adapter_.attr("stream")(device_.id).cast<std::uintptr_t>());
  if (exchange_->current_stream(device_.type, device_.id, &stream) != 0) throw py::error_already_set();
  return stream;
}

Array Library::view(const Argument& argument, Stream stream) const {
  return backend_ == nullptr ? cpu_view(argument) : device_view(argument, stream);
}

Array Library::device_view(const Argument& argument, Stream stream) const {
  const auto& [value, name, types] = argument;
  const auto refuse_elsewhere = [&, &value = value, &name = name](const dlpack::Device& device) {
    if (device.type != device_.type || device.id != device_.id)
      throw py::value_error(std::string(name) + " must be on " + where_ + " to match x; got " +
                            device_text(device, value));
  };
  if (exchange_ != nullptr && exchange_of(value) == exchange_)
    if (Array a = exchange_view(exchange_, value, name)) {
      refuse_elsewhere(a.device);
      return a;
    }
  if (!py::hasattr(value, "__dlpack__") || !py::hasattr(value, "__dlpack_device__"))
    throw py::type_error(std::string(name) + " must be an array on " + where_ + "; got " + type_text(value));
  refuse_elsewhere(device_of(value, name));
  py::dict options;
  options["stream"] = device_.type == dlpack::kCpu ? py::object(py::none()) : stream_number(stream);
  return import_dlpack(value, name, options);
}

Array Library::empty(const Dims& shape, const Type& type, Stream stream) const {
  if (backend_ == nullptr) {
    if (type != kBfloat16 || !numpy_) return new_numpy_array(shape, type);
    if (!like_) throw py::type_error("bfloat16 results need a library with from_dlpack(), or NumPy with ml_dtypes");
    return new_numpy_array(shape, type, like_);
  }
  if (exchange_ != nullptr) {
    // A tensor that PyTorch allocates itself: record_stream does nothing for tensors around imported memory.
    static PyObject* const method = PyUnicode_InternFromString("new_empty");
    if (type != type_ || !py::hasattr(like_, "new_empty")) return exchanged_empty(shape, type);
    PyObject* made = PyObject_CallMethodOneArg(like_.ptr(), method, tuple_of(shape).ptr());
    if (made == nullptr) throw py::error_already_set();
    const py::object object = py::reinterpret_steal<py::object>(made);
    Array a = device_view({object, "result", ""}, stream);
    a.owner = object;
    return a;
  }
  if (!adapter_) return new_device_array(*backend_, device_, shape, type);
  const py::object object = adapter_.attr("empty")(like_, tuple_of(shape), type_name(type));
  Array a = device_view({object, "result", ""}, stream);
  a.owner = object;
  return a;
}

Array Library::exchanged_empty(const Dims& shape, const Type& type) const {
  Array a;
  a.type = type;
  a.device = device_;
  a.shape = shape;
  a.strides = dense_strides(shape);
  dlpack::Tensor prototype{nullptr, device_, shape.size(), type, a.shape.begin(), nullptr, 0};
  dlpack::ManagedVersioned* managed = allocate(*exchange_, prototype);
  a.data = static_cast<char*>(managed->tensor.data) + managed->tensor.byte_offset;
  void* object = nullptr;
  if (exchange_->object_of(managed, &object) != 0) throw py::error_already_set();
  a.owner = py::reinterpret_steal<py::object>(static_cast<PyObject*>(object));
  return a;
}

Array Library::workspace(i64 bytes, Stream stream) const {
  if (bytes == 0) return {};
  const Dims shape{bytes + static_cast<i64>(kAlignment) - 1};
  Array room = exchange_ != nullptr ? exchanged_empty(shape, kByte) : empty(shape, kByte, stream);
  const auto address = reinterpret_cast<std::uintptr_t>(room.data);
  room.data = reinterpret_cast<void*>((address + kAlignment - 1) / kAlignment * kAlignment);
  return room;
}

py::object Library::wrap(const Array& result) const {
  if (!result) return py::none();
  if (numpy_ || (backend_ != nullptr && has_stream())) return result.owner;
  const DeviceArray ours(result, backend_, stream());
  if (exchange_ != nullptr) return ours.object(*exchange_);
  if (!from_dlpack_) return py::cast(ours);
  // NumPy exports its own arrays faster, but it cannot export bfloat16.
  const bool numpy_exports = backend_ == nullptr && result.type != kBfloat16;
  return from_dlpack_(numpy_exports ? result.owner : py::cast(ours));
}

}  // namespace fusedrop::arrays
