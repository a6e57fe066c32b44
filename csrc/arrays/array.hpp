// array: a view of an array of any library, in the memory of any device. All bindings compute with this type; NumPy's
// arrays (numpy.hpp) and DLPack's tensors (dlpack.hpp) become it at the edge.
//
// Names in all bindings: x_arg is the Python argument, x the checked array.
#pragma once

#include <pybind11/pybind11.h>

#include <initializer_list>
#include <string>
#include <utility>

#include "arrays/dims.hpp"
#include "arrays/dlpack_abi.hpp"
#include "arrays/text.hpp"
#include "core/dtypes.hpp"
#include "core/params/matrix.hpp"

namespace fusedrop::arrays {

namespace py = pybind11;

using Type = dlpack::DataType;
constexpr Type kFloat32{dlpack::kFloat, 32, 1}, kFloat64{dlpack::kFloat, 64, 1}, kFloat16{dlpack::kFloat, 16, 1};
constexpr Type kBfloat16{dlpack::kBfloat, 16, 1}, kBoolean{dlpack::kBool, 8, 1}, kByte{dlpack::kUint, 8, 1};
constexpr Type kInt64{dlpack::kInt, 64, 1};
constexpr bool operator==(const Type& a, const Type& b) {
  return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes;
}
constexpr bool operator!=(const Type& a, const Type& b) { return !(a == b); }
std::string type_name(const Type& type);  // "float32"

using Extent = std::pair<const char*, const char*>;  // the bytes [low, high)

struct Array {
  void* data = nullptr;
  Type type{};  // no bits: no array
  dlpack::Device device{dlpack::kCpu, 0};
  Dims shape, strides;  // strides in elements
  py::object owner;  // keeps the memory alive; null where the view is valid during one call only
  bool read_only = false;
  Extent copied_from{};  // where `data` is a copy: the memory of the caller's array

  explicit operator bool() const { return type.bits != 0; }
  int rank() const { return shape.size(); }
  i64 size() const;
  i64 item_bytes() const { return type.bits < 8 ? 1 : type.bits * type.lanes / 8; }
  bool contiguous() const;  // in C order
  bool aligned() const;  // to its elements
};

Dims dense_strides(const Dims& shape);  // C order
Extent extent(const Array& a);  // from its first byte to its last; of a copy, those of the caller's array
Dtype dtype_of(const Array& a);  // of a floating-point array
Matrix matrix(const Array& a);  // of a 2-D array

struct Flat {  // an array of any rank as a matrix [M,N], N its last axis; strides count elements
  i64 M = 1, N = 1, row_stride = 0, col_stride = 1;
};

// False where the leading axes cannot be merged into one axis with one stride: the array must then be copied.
bool flatten(const Array& a, Flat& flat);

// The checks of arguments. Errors name the argument, what it must be and what it was; `dims` is the notation of the
// shape, such as "[M, K]".
void require_rank(const Array& a, const char* name, int rank, const char* dims);
void require_type(const Array& a, const char* name, const Type& type, const char* like_name);
// A destination: C-contiguous, aligned and writeable, with this shape and type.
void require_output(const Array& a, const char* name, const char* dims, const Dims& shape, const Type& type);

// ValueError where `out` shares memory with one of `others`. No array shares nothing.
using NamedArray = std::pair<const char*, const Array*>;
void refuse_overlap(const char* name, const Array& out, std::initializer_list<NamedArray> others);

}  // namespace fusedrop::arrays
