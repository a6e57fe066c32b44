// device_array: see device_array.hpp.
#include "bind/cuda/array/device_array.hpp"

#include <cstdint>

namespace fusedrop::bind::cuda {
namespace {

i64 item_bytes(const DeviceArray& a) { return a.type.bits / 8; }

std::pair<const char*, const char*> extent(const DeviceArray& a) {
  const char* low = static_cast<const char*>(a.data);
  const char* high = low + item_bytes(a);
  if (a.size() == 0) return {low, low};
  for (std::size_t d = 0; d < a.shape.size(); ++d) {
    const i64 reach = (a.shape[d] - 1) * a.strides[d] * item_bytes(a);
    (reach < 0 ? low : high) += reach;
  }
  return {low, high};
}

}  // namespace

i64 DeviceArray::size() const {
  i64 size = 1;
  for (const py::ssize_t dim : shape) size *= dim;
  return size;
}

bool DeviceArray::contiguous() const {
  if (size() == 0) return true;
  i64 expected = 1;
  for (std::size_t d = shape.size(); d-- > 0;) {
    if (shape[d] != 1 && strides[d] != expected) return false;
    expected *= shape[d];
  }
  return true;
}

bool same_type(const dlpack::DataType& a, const dlpack::DataType& b) {
  return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes;
}

std::string type_name(const dlpack::DataType& type) {
  const std::string bits = std::to_string(type.bits);
  switch (type.lanes == 1 ? type.code : 255) {
    case dlpack::kInt:
      return "int" + bits;
    case dlpack::kUint:
      return "uint" + bits;
    case dlpack::kFloat:
      return "float" + bits;
    case dlpack::kBfloat:
      return "bfloat" + bits;
    case dlpack::kComplex:
      return "complex" + bits;
    case dlpack::kBool:
      return "bool";
    default:
      return "DLPack type " + std::to_string(type.code) + " of " + bits + " bits";
  }
}

Dtype dtype_of(const DeviceArray& a) {
  return a.type.bits == 32 ? Dtype::float32 : a.type.code == dlpack::kBfloat ? Dtype::bfloat16 : Dtype::float16;
}

DeviceArray array_from(const dlpack::Tensor& t, const py::handle& array, py::object owner, bool read_only) {
  DeviceArray a;
  a.data = static_cast<char*>(t.data) + t.byte_offset;
  a.type = t.dtype;
  a.device = t.device;
  a.shape.assign(t.shape, t.shape + t.ndim);
  a.strides.resize(a.shape.size());
  i64 dense = 1;
  for (std::size_t d = a.shape.size(); d-- > 0;) {
    a.strides[d] = t.strides == nullptr ? dense : t.strides[d];
    dense *= a.shape[d];
  }
  a.read_only = read_only;
  a.array = py::reinterpret_borrow<py::object>(array);
  a.owner = std::move(owner);
  return a;
}

void require_floating(const DeviceArray& a, const char* name) {
  const bool supported =
      a.type.lanes == 1 && ((a.type.code == dlpack::kFloat && (a.type.bits == 32 || a.type.bits == 16)) ||
                            (a.type.code == dlpack::kBfloat && a.type.bits == 16));
  if (!supported)
    throw py::type_error(std::string(name) + " must be float32, float16 or bfloat16 on the GPU; got " +
                         type_name(a.type));
  if (reinterpret_cast<std::uintptr_t>(a.data) % static_cast<std::uintptr_t>(item_bytes(a)) != 0)
    throw py::value_error(std::string(name) + " must be aligned to its elements; got an odd address");
}

void require_like(const DeviceArray& a, const char* name, const DeviceArray& like, const char* like_name) {
  require_floating(a, name);
  if (!same_type(a.type, like.type))
    throw py::type_error(std::string(name) + " must be " + type_name(like.type) + " to match " + like_name + "; got " +
                         type_name(a.type));
}

void require_rank(const DeviceArray& a, const char* name, py::ssize_t rank, const char* dims) {
  if (a.rank() != rank)
    throw py::value_error(std::string(name) + " must be " + dims + ", an array of rank " + std::to_string(rank) +
                          "; got rank " + std::to_string(a.rank()) + ", shape " + shape_text(a));
}

void require_output(const DeviceArray& a, const char* name, const char* dims, const Shape& shape,
                    const dlpack::DataType& type) {
  if (!same_type(a.type, type))
    throw py::type_error(std::string(name) + " must be " + type_name(type) + " to match the inputs; got " +
                         type_name(a.type));
  if (a.shape != shape)
    throw py::value_error(std::string(name) + " must be " + dims + " = " + shape_text(shape) + "; got " +
                          shape_text(a));
  if (!a.contiguous() || reinterpret_cast<std::uintptr_t>(a.data) % static_cast<std::uintptr_t>(item_bytes(a)) != 0)
    throw py::value_error(std::string(name) + " must be C-contiguous and aligned; got other strides");
  if (a.read_only) throw py::value_error(std::string(name) + " must be writeable; got a read-only array");
}

void refuse_overlap(const char* name, const DeviceArray& out,
                    std::initializer_list<std::pair<const char*, const DeviceArray*>> others) {
  const auto [low, high] = extent(out);
  for (const auto& [other_name, other] : others) {
    const auto [other_low, other_high] = extent(*other);
    if (low < other_high && other_low < high)
      throw py::value_error(std::string(name) + " must not overlap " + other_name + "; they share memory");
  }
}

Matrix matrix(const DeviceArray& a) { return {a.data, a.strides[0], a.strides[1]}; }

}  // namespace fusedrop::bind::cuda
