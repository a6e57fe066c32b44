// device_array: a caller's array in device memory, and its checks. Errors name the argument and both sides, in the same
// wording as those of bind/array/array.hpp for the CPU.
#pragma once

#include <pybind11/pybind11.h>

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "bind/array/dlpack_abi.hpp"
#include "bind/array/text.hpp"
#include "core/dtypes.hpp"
#include "core/params/matrix.hpp"

namespace fusedrop::bind::cuda {

namespace py = pybind11;

using Shape = std::vector<py::ssize_t>;

struct DeviceArray {
  void* data = nullptr;  // null: no array
  dlpack::DataType type{};
  dlpack::Device device{};
  Shape shape;
  std::vector<i64> strides;  // in elements
  bool read_only = false;
  py::object array;  // the object that the caller passed or receives
  py::object owner;  // another object that keeps the memory alive, or null

  py::ssize_t rank() const { return static_cast<py::ssize_t>(shape.size()); }
  i64 size() const;
  bool contiguous() const;  // in C order
};

constexpr dlpack::DataType kByte{dlpack::kUint, 8, 1};
constexpr dlpack::DataType kBoolean{dlpack::kBool, 8, 1};

bool same_type(const dlpack::DataType& a, const dlpack::DataType& b);
std::string type_name(const dlpack::DataType& type);  // "float32"
Dtype dtype_of(const DeviceArray& a);  // of a floating-point array

DeviceArray array_from(const dlpack::Tensor& tensor, const py::handle& array, py::object owner = {},
                       bool read_only = false);

using bind::shape_text;
inline std::string shape_text(const DeviceArray& a) { return shape_text(a.shape); }

void require_floating(const DeviceArray& a, const char* name);  // float32, float16 or bfloat16, aligned
void require_like(const DeviceArray& a, const char* name, const DeviceArray& like, const char* like_name);  // the dtype
void require_rank(const DeviceArray& a, const char* name, py::ssize_t rank, const char* dims);
// Checks a destination: it must be C-contiguous and writeable, with this shape and dtype.
void require_output(const DeviceArray& a, const char* name, const char* dims, const Shape& shape,
                    const dlpack::DataType& type);
void refuse_overlap(const char* name, const DeviceArray& out,
                    std::initializer_list<std::pair<const char*, const DeviceArray*>> others);

Matrix matrix(const DeviceArray& a);  // of a 2-D array

}  // namespace fusedrop::bind::cuda
