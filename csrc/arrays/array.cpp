// array: see array.hpp.
#include "arrays/array.hpp"

#include <cstdint>

namespace fusedrop::arrays {

Extent extent(const Array& a) {
  if (a.copied_from.first != nullptr) return a.copied_from;
  const char* low = static_cast<const char*>(a.data);
  const char* high = low + a.item_bytes();
  for (int d = 0; d < a.rank(); ++d) {
    if (a.shape[d] == 0) return {low, low};
    const i64 reach = (a.shape[d] - 1) * a.strides[d] * a.item_bytes();
    (reach < 0 ? low : high) += reach;
  }
  return {low, high};
}

std::string type_name(const Type& type) {
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

i64 Array::size() const {
  i64 size = 1;
  for (const i64 dim : shape) size *= dim;
  return size;
}

bool Array::contiguous() const {
  i64 expected = 1;
  bool dense = true;
  for (int d = rank(); d-- > 0; expected *= shape[d]) dense = dense && (shape[d] == 1 || strides[d] == expected);
  return dense || size() == 0;
}

bool Array::aligned() const {
  return reinterpret_cast<std::uintptr_t>(data) % static_cast<std::uintptr_t>(item_bytes()) == 0;
}

Dims dense_strides(const Dims& shape) {
  Dims strides(shape.size());
  i64 stride = 1;
  for (int d = shape.size(); d-- > 0; stride *= shape[d]) strides[d] = stride;
  return strides;
}

Dtype dtype_of(const Array& a) {
  if (a.type.code == dlpack::kBfloat) return Dtype::bfloat16;
  return a.type.bits == 32 ? Dtype::float32 : a.type.bits == 64 ? Dtype::float64 : Dtype::float16;
}

bool flatten(const Array& a, Flat& flat) {
  const Dims &shape = a.shape, &strides = a.strides;
  flat = Flat{};
  const int last = shape.size() - 1;
  if (last < 0) return true;
  flat.N = shape[last];
  flat.col_stride = strides[last];
  i64 expected = 0;  // the stride that lets axis d merge with the axes after it
  for (int d = last; d-- > 0;) {
    if (shape[d] != 1) {
      if (flat.M == 1)
        flat.row_stride = strides[d];
      else if (strides[d] != expected)
        return false;
      expected = strides[d] * shape[d];
    }
    flat.M *= shape[d];
  }
  return true;
}

Matrix matrix(const Array& a) { return {a.data, a.strides[0], a.strides[1]}; }

void require_rank(const Array& a, const char* name, int rank, const char* dims) {
  if (a.rank() != rank)
    throw py::value_error(std::string(name) + " must be " + dims + ", an array of rank " + std::to_string(rank) +
                          "; got rank " + std::to_string(a.rank()) + ", shape " + shape_text(a.shape));
}

void require_type(const Array& a, const char* name, const Type& type, const char* like_name) {
  if (a.type != type)
    throw py::type_error(std::string(name) + " must be " + type_name(type) + " to match " + like_name + "; got " +
                         type_name(a.type));
}

void require_output(const Array& a, const char* name, const char* dims, const Dims& shape, const Type& type) {
  require_type(a, name, type, "the inputs");
  if (a.shape != shape)
    throw py::value_error(std::string(name) + " must be " + dims + " = " + shape_text(shape) + "; got " +
                          shape_text(a.shape));
  if (a.copied_from.first != nullptr || !a.contiguous() || !a.aligned())
    throw py::value_error(std::string(name) + " must be C-contiguous and aligned; got other strides");
  if (a.read_only) throw py::value_error(std::string(name) + " must be writeable; got a read-only array");
}

void refuse_overlap(const char* name, const Array& out, std::initializer_list<NamedArray> others) {
  if (!out) return;
  const auto [low, high] = extent(out);
  for (const auto& [other_name, other] : others) {
    if (!*other) continue;
    const auto [other_low, other_high] = extent(*other);
    if (low < other_high && other_low < high)
      throw py::value_error(std::string(name) + " must not overlap " + other_name + "; they share memory");
  }
}

}  // namespace fusedrop::arrays
