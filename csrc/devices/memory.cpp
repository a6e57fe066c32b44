// memory: see memory.hpp. The part for devices has not run on a GPU yet: docs/cuda.md.
#include "devices/memory.hpp"

#include <algorithm>
#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "arrays/dlpack.hpp"
#include "arrays/numpy.hpp"

namespace fusedrop::devices {

using namespace arrays;

namespace {

class Event {  // all work that a stream had been given at construction
 public:
  Event(const DeviceBackend& backend, Stream stream)
      : backend_(backend), event_(backend.record(stream), backend.destroy) {}
  void wait(Stream stream) const { backend_.wait(event_.get(), stream); }
  bool completed() const { return backend_.completed(event_.get()); }

 private:
  const DeviceBackend& backend_;
  std::shared_ptr<void> event_;
};

struct Block {  // stream-ordered memory
  Block(const DeviceBackend& of, int on, i64 bytes)
      : backend(of), device(on), stream(of.own_stream(on)), data(of.allocate(bytes, stream)) {}
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() {
    const DeviceGuard guard(backend, device);
    backend.release(data, stream);
  }
  const DeviceBackend& backend;
  int device;
  Stream stream;
  void* data;
};

template <class Managed>
struct Holder {
  Managed managed;
  Array array;
};

template <class Managed>
Managed* managed_tensor(const Array& array) {
  auto holder = std::make_unique<Holder<Managed>>();
  holder->array = array;
  Managed& m = holder->managed;
  if constexpr (std::is_same_v<Managed, dlpack::ManagedVersioned>) {
    m.version = {1, 0};
    m.flags = 0;
  }
  Array& a = holder->array;
  m.tensor = {a.data, a.device, a.rank(), a.type, a.shape.begin(), a.strides.begin(), 0};
  m.context = holder.get();
  m.deleter = [](Managed* managed) {
    if (Py_IsInitialized() == 0) return;  // can run after Python has shut down, on any thread
    py::gil_scoped_acquire gil;
    delete static_cast<Holder<Managed>*>(managed->context);
  };
  return &holder.release()->managed;
}

template <class Managed>
py::capsule encapsulated(const Array& array) {
  return py::capsule(managed_tensor<Managed>(array), Managed::name, [](PyObject* capsule) {
    if (PyCapsule_IsValid(capsule, Managed::name) == 0) return;  // consumed
    auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, Managed::name));
    managed->deleter(managed);
  });
}

struct DeferredRelease {  // objects to release after the event
  Event event;
  std::vector<py::object> objects;
};

Type type_from(const std::string& name) {
  for (const Type& type : {kFloat32, kFloat16, kBfloat16, kBoolean, kInt64})
    if (type_name(type) == name) return type;
  throw py::value_error("dtype must be float32, float16, bfloat16, bool or int64; got " + name);
}

DeviceArray to_device(const py::array& array, int device, const std::string& dtype) {
  const DeviceBackend& backend = load_backend();
  const Type type = type_from(dtype);
  if (array.itemsize() != type.bits / 8 || (array.flags() & py::array::c_style) == 0)
    throw py::value_error("array must be C-contiguous, with elements of the size of " + dtype);
  const DeviceGuard guard(backend, device);
  const Array made = new_device_array(backend, {backend.device_type, device},
                                      Dims(array.shape(), static_cast<int>(array.ndim())), type);
  const Stream stream = backend.own_stream(device);
  if (array.size() > 0) backend.copy(made.data, array.data(), array.nbytes(), stream);
  return {made, &backend, stream};
}

DeviceArray transposed(const DeviceArray& a) {
  Array reversed = a.array();
  std::reverse(reversed.shape.begin(), reversed.shape.begin() + reversed.rank());
  std::reverse(reversed.strides.begin(), reversed.strides.begin() + reversed.rank());
  return {std::move(reversed), a.backend(), a.stream()};
}

py::object to_host(const DeviceArray& source) {
  const Array& a = source.array();
  if (source.backend() == nullptr || !a.contiguous())
    throw py::value_error("array must be C-contiguous and on a device; got " + shape_text(a.shape));
  py::dtype half = py::dtype::from_args(py::str("float16"));
  const Array host = new_numpy_array(a.shape, a.type, a.type == kFloat16 ? py::handle(half) : py::handle());
  const DeviceGuard guard(*source.backend(), a.device.id);
  if (a.size() > 0) source.backend()->copy(host.data, a.data, a.size() * a.item_bytes(), source.stream());
  return host.owner;
}

}  // namespace

// DLPack's streams: 1 and 2 are CUDA's two default streams, None means 1, and -1 means that no ordering is needed.
py::capsule DeviceArray::capsule(const py::kwargs& options) const {
  const auto option = [&](const char* name) {
    return options.contains(name) ? py::object(options[name]) : py::object(py::none());
  };
  const py::object stream = option("stream"), newest = option("max_version");
  const std::intptr_t number = stream.is_none() ? 1 : stream.cast<std::intptr_t>();
  if (backend_ != nullptr && array_.device.type == dlpack::kCuda && number != -1) {
    const DeviceGuard guard(*backend_, array_.device.id);
    Event(*backend_, stream_).wait(reinterpret_cast<Stream>(number));
  }
  const bool versioned = !newest.is_none() && newest.cast<std::pair<int, int>>().first >= 1;
  return versioned ? encapsulated<dlpack::ManagedVersioned>(array_) : encapsulated<dlpack::Managed>(array_);
}

py::object DeviceArray::object(const dlpack::ExchangeApi& api) const {
  void* made = nullptr;
  if (api.object_of(managed_tensor<dlpack::ManagedVersioned>(array_), &made) != 0) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(static_cast<PyObject*>(made));
}

Array new_device_array(const DeviceBackend& backend, const dlpack::Device& device, const Dims& shape,
                       const Type& type) {
  Array a;
  a.type = type;
  a.device = device;
  a.shape = shape;
  a.strides = dense_strides(shape);
  const DeviceGuard guard(backend, device.id);
  auto block = std::make_unique<Block>(backend, device.id, a.size() * a.item_bytes());
  a.data = block->data;
  a.owner = py::capsule(block.release(), [](void* p) { delete static_cast<Block*>(p); });
  return a;
}

void release_after(const DeviceBackend& backend, Stream stream, std::initializer_list<const Array*> operands) {
  static auto& pending = *new std::list<DeferredRelease>;  // never destroyed: Python may have ended by then
  pending.remove_if([](const DeferredRelease& entry) { return entry.event.completed(); });
  DeferredRelease entry{Event(backend, stream), {}};
  for (const Array* a : operands)
    if (a->owner) entry.objects.push_back(a->owner);
  pending.push_back(std::move(entry));
}

void register_memory(py::module_& m) {
  py::class_<DeviceArray>(m, "DeviceArray", "An array in memory of fusedrop, which other libraries import by DLPack.",
                          py::is_final())
      .def("__dlpack__",
           [](const DeviceArray& a, const py::args&, const py::kwargs& options) { return a.capsule(options); })
      .def("__dlpack_device__",
           [](const DeviceArray& a) {
             return py::make_tuple(static_cast<int>(a.array().device.type), static_cast<int>(a.array().device.id));
           })
      .def_property_readonly("shape",
                             [](const DeviceArray& a) {
                               py::list shape;
                               for (const i64 dim : a.array().shape) shape.append(dim);
                               return py::tuple(shape);
                             })
      .def_property_readonly("T", &transposed, "The same memory with the axes in reverse order.")
      .def_property_readonly("dtype", [](const DeviceArray& a) { return type_name(a.array().type); });
  // DeviceArray.__new__(DeviceArray) would have memory that nobody has initialized.
  reinterpret_cast<PyTypeObject*>(m.attr("DeviceArray").ptr())->tp_new = nullptr;
  m.def("to_device", &to_device, py::arg("array"), py::arg("device"), py::arg("dtype"),
        "A copy of a NumPy array in a device's memory; bfloat16 is given as uint16.");
  m.def("to_host", &to_host, py::arg("array"), "A NumPy copy of a DeviceArray; bfloat16 is returned as uint16.");
}

}  // namespace fusedrop::devices
