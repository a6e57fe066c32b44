// own_stream: see own_stream.hpp. It has not run on a GPU yet: docs/cuda.md.
#include "bind/cuda/array/own_stream.hpp"

#include <cstdint>
#include <list>
#include <memory>
#include <string>

#include "cuda/runtime/kernels.hpp"
#include "cuda/runtime/streams.hpp"

namespace fusedrop::bind::cuda {
namespace {

using fusedrop::cuda::DeviceGuard;
using fusedrop::cuda::Event;
using fusedrop::cuda::Stream;

struct Block {  // stream-ordered memory
  Block(i64 bytes, int on, Stream of) : stream(of), device(on), data(fusedrop::cuda::allocate(bytes, of)) {}
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() {
    const DeviceGuard guard(device);
    fusedrop::cuda::release(data, stream);
  }
  Stream stream;
  int device;
  void* data;
};

// A result that the caller's library imports by DLPack.
class OwnArray {
 public:
  OwnArray(std::shared_ptr<Block> block, const DeviceArray& a)
      : block_(std::move(block)), device_(a.device), type_(a.type), shape_(a.shape.begin(), a.shape.end()) {}

  py::tuple device() const { return py::make_tuple(static_cast<int>(device_.type), static_cast<int>(device_.id)); }

  // DLPack's streams: 1 and 2 are CUDA's two default streams, None means 1, and -1 means that no ordering is needed.
  py::capsule capsule(const py::args&, const py::kwargs& options) const {
    const py::object stream = options.contains("stream") ? options["stream"] : py::none();
    const std::intptr_t number = stream.is_none() ? 1 : stream.cast<std::intptr_t>();
    if (device_.type == dlpack::kCuda && number != -1) {
      const DeviceGuard guard(device_.id);
      Event(block_->stream).wait(reinterpret_cast<Stream>(number));
    }
    const py::object newest = options.contains("max_version") ? options["max_version"] : py::none();
    const bool versioned = !newest.is_none() && newest.cast<std::pair<int, int>>().first >= 1;
    return versioned ? encapsulated<dlpack::ManagedVersioned>() : encapsulated<dlpack::Managed>();
  }

 private:
  template <class Managed>
  struct Holder {
    Managed managed;
    std::shared_ptr<Block> block;
    std::vector<std::int64_t> shape, strides;
  };

  template <class Managed>
  py::capsule encapsulated() const {
    auto holder = std::make_unique<Holder<Managed>>();
    holder->block = block_;
    holder->shape = shape_;
    holder->strides.assign(shape_.size(), 1);
    for (std::size_t d = shape_.size(); d-- > 1;) holder->strides[d - 1] = holder->strides[d] * shape_[d];
    Managed& m = holder->managed;
    if constexpr (std::is_same_v<Managed, dlpack::ManagedVersioned>) {
      m.version = {1, 0};
      m.flags = 0;
    }
    m.tensor = {block_->data,           device_, static_cast<std::int32_t>(shape_.size()), type_, holder->shape.data(),
                holder->strides.data(), 0};
    m.context = holder.get();
    m.deleter = [](Managed* managed) { delete static_cast<Holder<Managed>*>(managed->context); };
    py::capsule capsule(&m, Managed::name, [](PyObject* unused) {
      if (PyCapsule_IsValid(unused, Managed::name) == 0) return;  // consumed
      auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(unused, Managed::name));
      managed->deleter(managed);
    });
    holder.release();
    return capsule;
  }

  std::shared_ptr<Block> block_;
  dlpack::Device device_;
  dlpack::DataType type_;
  std::vector<std::int64_t> shape_;
};

struct DeferredRelease {  // objects to release after the event
  Event event;
  std::vector<py::object> objects;
};

}  // namespace

Stream own_stream(int device) {
  const DeviceGuard guard(device);
  return fusedrop::cuda::own_stream(device);
}

DeviceArray own_array(const Shape& shape, const dlpack::DataType& type, const dlpack::Device& device, Stream stream) {
  DeviceArray a;
  a.type = type;
  a.device = device;
  a.shape = shape;
  a.strides.assign(shape.size(), 1);
  for (std::size_t d = shape.size(); d-- > 1;) a.strides[d - 1] = a.strides[d] * shape[d];
  a.array = py::none();
  const DeviceGuard guard(device.id);
  auto block = std::make_shared<Block>(a.size() * type.bits / 8, device.id, stream);
  a.data = block->data;
  a.owner = py::cast(OwnArray(std::move(block), a));
  return a;
}

py::object export_own_array(const DeviceArray& result, const py::object& from_dlpack) {
  return from_dlpack ? from_dlpack(result.owner) : result.owner;
}

void release_after(Stream stream, std::initializer_list<const DeviceArray*> operands) {
  static auto& pending = *new std::list<DeferredRelease>;  // never destroyed: Python may have ended by then
  pending.remove_if([](const DeferredRelease& entry) { return entry.event.completed(); });
  DeferredRelease entry{Event(stream), {}};
  for (const DeviceArray* a : operands)
    for (const py::object& object : {a->array, a->owner})
      if (object && !object.is_none()) entry.objects.push_back(object);
  pending.push_back(std::move(entry));
}

void register_own_stream(py::module_& m) {
  py::class_<OwnArray>(m, "OwnArray", "A result of fusedrop for a library that does not expose its current stream.",
                       py::module_local())
      .def("__dlpack__", &OwnArray::capsule)
      .def("__dlpack_device__", &OwnArray::device);
}

}  // namespace fusedrop::bind::cuda
