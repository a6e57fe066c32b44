// operand: a caller's array in device memory, and its checks. Errors name the argument and both sides, in the words that
// bind/arrays.hpp has for the CPU's.
#pragma once

#include <pybind11/pybind11.h>

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "bind/dlpack_abi.hpp"
#include "bind/text.hpp"
#include "core/args.hpp"

namespace fusedrop::bind::cuda {

namespace py = pybind11;

using Shape = std::vector<py::ssize_t>;

struct Operand {
  void* data = nullptr;  // null: no array
  dlpack::DataType type{};
  dlpack::Device device{};
  Shape shape;
  std::vector<i64> strides;  // in elements
  bool read_only = false;
  py::object array;  // what the caller passed, or gets
  py::object loan;  // what else keeps the memory alive

  py::ssize_t rank() const { return static_cast<py::ssize_t>(shape.size()); }
  i64 size() const;
  bool contiguous() const;  // in C order
};

constexpr dlpack::DataType kByte{dlpack::kUint, 8, 1};
constexpr dlpack::DataType kBoolean{dlpack::kBool, 8, 1};

bool same_type(const dlpack::DataType& a, const dlpack::DataType& b);
std::string type_name(const dlpack::DataType& type);  // "float32"
Dtype dtype_of(const Operand& a);  // of a floating one

Operand operand_of(const dlpack::Tensor& tensor, const py::handle& array, py::object loan = {}, bool read_only = false);

using bind::shape_text;
inline std::string shape_text(const Operand& a) { return shape_text(a.shape); }

void require_floating(const Operand& a, const char* name);  // float32, float16 or bfloat16, aligned
void require_like(const Operand& a, const char* name, const Operand& like, const char* like_name);  // in dtype
void require_rank(const Operand& a, const char* name, py::ssize_t rank, const char* letters);
// A destination: C-contiguous and writeable, of this shape and dtype.
void require_output(const Operand& a, const char* name, const char* letters, const Shape& shape,
                    const dlpack::DataType& type);
void refuse_overlap(const char* name, const Operand& out,
                    std::initializer_list<std::pair<const char*, const Operand*>> others);

Matrix matrix(const Operand& a);  // of a 2-D array

}  // namespace fusedrop::bind::cuda
