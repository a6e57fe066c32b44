// array: see array.hpp.
#include "bind/array/array.hpp"

#include <algorithm>
#include <atomic>

#include "bind/array/text.hpp"

namespace fusedrop::bind {
namespace {

// Kernels count strides in elements and load aligned elements. An array with other strides or an odd offset (a field of
// packed records) is copied once.
py::array with_element_strides(const py::array& a) {
  bool regular = (a.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
  for (py::ssize_t d = 0; d < a.ndim(); ++d) regular = regular && a.strides(d) % a.itemsize() == 0;
  if (regular) return a;
  return py::module_::import("numpy").attr("array")(a, py::arg("order") = "C").cast<py::array>();
}

// Floats in this machine's byte order: array_t's check is NumPy's equivalence of dtypes.
bool is_native_float(const py::handle& a) {
  return py::isinstance<py::array_t<float>>(a) || py::isinstance<py::array_t<double>>(a);
}

// bfloat16 is a dtype that ml_dtypes registers with NumPy. The first one is found by its name; later ones are compared
// by the number that NumPy gave to that dtype.
bool is_native_bfloat16(const py::handle& a) {
  static std::atomic<int> bfloat16_num{-1};
  const py::dtype dtype = py::reinterpret_borrow<py::array>(a).dtype();
  if (dtype.itemsize() != 2) return false;
  if (dtype.num() == bfloat16_num.load(std::memory_order_relaxed)) return dtype.attr("isnative").cast<bool>();
  if (dtype.attr("name").cast<std::string>() != "bfloat16") return false;
  bfloat16_num.store(dtype.num(), std::memory_order_relaxed);
  return dtype.attr("isnative").cast<bool>();
}

bool is_exact_ndarray(const py::handle& array) {
  return Py_TYPE(array.ptr()) == py::detail::npy_api::get().PyArray_Type_;
}

// The bytes [low, high) that the elements of `a` lie in.
std::pair<const char*, const char*> memory_range(const py::array& a) {
  const char* low = static_cast<const char*>(a.data());
  const char* high = low + a.itemsize();
  for (py::ssize_t d = 0; d < a.ndim(); ++d) {
    if (a.shape(d) == 0) return {low, low};
    const py::ssize_t reach = (a.shape(d) - 1) * a.strides(d);
    (reach < 0 ? low : high) += reach;
  }
  return {low, high};
}

}  // namespace

Shape shape_of(const py::array& a) { return Shape(a.shape(), a.shape() + a.ndim()); }

std::string shape_text(const py::array& a) { return shape_text(shape_of(a)); }

std::string dtype_text(const py::array& a) { return py::str(a.attr("dtype")).cast<std::string>(); }

Dtype dtype_of(const py::array& a) {
  return a.itemsize() == 4 ? Dtype::float32 : a.itemsize() == 8 ? Dtype::float64 : Dtype::bfloat16;
}

py::array floating_array(const py::handle& value, const char* name) {
  const bool is_array = py::isinstance<py::array>(value);  // NumPy's scalars have a dtype, but are not arrays
  // A masked array is refused: its mask would be ignored in silence. Only subclasses of ndarray can have a mask, so the
  // attribute is not looked up for a plain ndarray.
  const bool masked = is_array && !is_exact_ndarray(value) && py::hasattr(value, "mask");
  if (!is_array || masked || (!is_native_float(value) && !is_native_bfloat16(value))) {
    const std::string got =
        is_array && !masked ? dtype_text(py::reinterpret_borrow<py::array>(value)) : type_text(value);
    throw py::type_error(std::string(name) + " must be a NumPy array of float32, float64 or bfloat16; got " + got);
  }
  return with_element_strides(py::reinterpret_borrow<py::array>(value));
}

py::array array_like(const py::handle& value, const char* name, const py::array& like, const char* like_name) {
  py::array a = floating_array(value, name);
  if (a.itemsize() != like.itemsize())
    throw py::type_error(std::string(name) + " must be " + dtype_text(like) + " to match " + like_name + "; got " +
                         dtype_text(a));
  return a;
}

py::array contiguous(const py::array& a) {
  if ((a.flags() & py::array::c_style) != 0) return a;
  return py::module_::import("numpy").attr("ascontiguousarray")(a).cast<py::array>();
}

void require_rank(const py::array& a, const char* name, py::ssize_t rank, const char* dims) {
  if (a.ndim() != rank)
    throw py::value_error(std::string(name) + " must be " + dims + ", an array of rank " + std::to_string(rank) +
                          "; got rank " + std::to_string(a.ndim()) + ", shape " + shape_text(a));
}

py::array new_array(const Shape& shape, const py::array& like) { return py::array(like.dtype(), shape); }

py::array output_array(const py::handle& value, const char* name, const char* dims, const Shape& shape,
                       const py::array& like) {
  const py::array a = floating_array(value, name);
  if (a.itemsize() != like.itemsize())
    throw py::type_error(std::string(name) + " must be " + dtype_text(like) + " to match the inputs; got " +
                         dtype_text(a));
  if (a.ndim() != static_cast<py::ssize_t>(shape.size()) || !std::equal(shape.begin(), shape.end(), a.shape()))
    throw py::value_error(std::string(name) + " must be " + dims + " = " + shape_text(shape) + "; got " +
                          shape_text(a));
  if (!a.is(value) || (a.flags() & py::array::c_style) == 0)
    throw py::value_error(std::string(name) + " must be C-contiguous and aligned; got other strides");
  if (!a.writeable()) throw py::value_error(std::string(name) + " must be writeable; got a read-only array");
  return a;
}

void refuse_overlap(const char* name, const py::array& out, std::initializer_list<NamedArray> others) {
  const auto [low, high] = memory_range(out);
  for (const auto& [other_name, other] : others) {
    if (!other || !py::isinstance<py::array>(other)) continue;
    const auto [other_low, other_high] = memory_range(py::reinterpret_borrow<py::array>(other));
    if (low < other_high && other_low < high)
      throw py::value_error(std::string(name) + " must not overlap " + other_name + "; they share memory");
  }
}

i64 stride(const py::array& a, int axis) { return a.strides(axis) / a.itemsize(); }

Matrix matrix(const py::array& a) { return {a.data(), stride(a, 0), stride(a, 1)}; }

}  // namespace fusedrop::bind
