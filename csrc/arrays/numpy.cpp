// numpy: see numpy.hpp.
#include "arrays/numpy.hpp"

#include <atomic>

namespace fusedrop::arrays {
namespace {

using Npy = py::detail::npy_api;

const py::detail::PyArray_Proxy& proxy(const py::handle& array) { return *py::detail::array_proxy(array.ptr()); }

// bfloat16 is a dtype that ml_dtypes registers with NumPy. The first one is found by its type; later ones are compared
// by the number that NumPy gave to that dtype. Numbers below kFirstRegistered are NumPy's own dtypes: the type of a
// structured one is a class of the caller's, which can have any name.
constexpr int kFirstRegistered = 256;

bool is_bfloat16(const py::dtype& dtype) {
  static std::atomic<int> bfloat16_num{-1};
  const int known = bfloat16_num.load(std::memory_order_relaxed);
  if (known >= 0 || dtype.itemsize() != 2) return dtype.num() == known;
  if (dtype.num() < kFirstRegistered) return false;
  const py::object scalar = dtype.attr("type");
  if (scalar.attr("__name__").cast<std::string>() != "bfloat16") return false;
  if (scalar.attr("__module__").cast<std::string>() != "ml_dtypes") return false;
  bfloat16_num.store(dtype.num(), std::memory_order_relaxed);
  return true;
}

Type type_of(const py::handle& array) {
  const auto dtype = py::reinterpret_borrow<py::dtype>(proxy(array).descr);
  if (dtype.byteorder() == '>') return {};
  if (dtype.num() == Npy::NPY_FLOAT_) return kFloat32;
  const auto bits = static_cast<std::uint8_t>(dtype.itemsize() * 8);
  switch (dtype.kind()) {
    case 'f':
      return {dlpack::kFloat, bits, 1};
    case 'b':
      return kBoolean;
    case 'i':
      return {dlpack::kInt, bits, 1};
    case 'u':
      return {dlpack::kUint, bits, 1};
    case 'c':
      return {dlpack::kComplex, bits, 1};
    default:
      return is_bfloat16(dtype) ? kBfloat16 : Type{};
  }
}

// False where the strides are no whole number of elements.
bool read_layout(const py::handle& array, Array& a) {
  const auto& p = proxy(array);
  a.data = p.data;
  a.shape = Dims(p.dimensions, p.nd);
  a.strides = Dims(p.strides, p.nd);
  a.read_only = (p.flags & Npy::NPY_ARRAY_WRITEABLE_) == 0;
  bool whole = true;
  for (i64* stride = a.strides.begin(); stride != a.strides.end(); ++stride) {
    whole = whole && *stride % a.item_bytes() == 0;
    *stride /= a.item_bytes();
  }
  return whole;
}

py::object copy_in_c_order(const py::handle& array) {
  PyObject* copy = Npy::get().PyArray_NewCopy_(array.ptr(), 0);
  if (copy == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(copy);
}

Extent bytes_of(const py::handle& array) {
  const auto& p = proxy(array);
  const char *low = p.data, *high = low + py::reinterpret_borrow<py::dtype>(p.descr).itemsize();
  for (int d = 0; d < p.nd; ++d) {
    if (p.dimensions[d] == 0) return {low, low};
    const py::ssize_t reach = (p.dimensions[d] - 1) * p.strides[d];
    (reach < 0 ? low : high) += reach;
  }
  return {low, high};
}

int type_number(const Type& type) {
  if (type == kFloat32) return Npy::NPY_FLOAT_;
  if (type == kFloat64) return Npy::NPY_DOUBLE_;
  if (type == kBoolean) return Npy::NPY_BOOL_;
  if (type == kInt64) return Npy::NPY_INT64_;
  return type.bits == 8 ? Npy::NPY_UINT8_ : type.bits == 16 ? Npy::NPY_UINT16_ : Npy::NPY_UINT32_;
}

// An array in C order, or one over `data` with these strides in bytes.
py::object make_array(py::handle dtype, const Type& type, const Dims& shape, void* data, const Dims* strides) {
  const Npy& api = Npy::get();
  PyObject* descr = dtype ? dtype.inc_ref().ptr() : api.PyArray_DescrFromType_(type_number(type));
  static_assert(sizeof(i64) == sizeof(Py_intptr_t));
  const auto* dims = reinterpret_cast<const Py_intptr_t*>(shape.begin());
  const auto* steps = strides == nullptr ? nullptr : reinterpret_cast<const Py_intptr_t*>(strides->begin());
  PyObject* made = api.PyArray_NewFromDescr_(api.PyArray_Type_, descr, shape.size(), dims, steps, data,
                                             data == nullptr ? 0 : Npy::NPY_ARRAY_WRITEABLE_, nullptr);
  if (made == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(made);
}

}  // namespace

Array numpy_view(const py::handle& array) {
  Array a;
  // Only subclasses of ndarray can have a mask, so the attribute is not looked up for a plain ndarray.
  if (Py_TYPE(array.ptr()) != Npy::get().PyArray_Type_ && py::hasattr(array, "mask")) return a;
  a.type = type_of(array);
  if (!a) return a;
  const bool whole = read_layout(array, a);
  if (whole && (proxy(array).flags & Npy::NPY_ARRAY_ALIGNED_) != 0) {
    a.owner = py::reinterpret_borrow<py::object>(array);
    return a;
  }
  a.owner = copy_in_c_order(array);
  read_layout(a.owner, a);
  a.copied_from = bytes_of(array);
  return a;
}

bool is_unchanged(const py::handle& array, const Array& saved) {
  Array now;
  now.type = type_of(array);
  const bool bits = saved.type == kBfloat16 && now.type.bits == 16;  // memory that new_numpy_array() has made
  return (now.type == saved.type || bits) && read_layout(array, now) && now.data == saved.data &&
         now.shape == saved.shape && now.strides == saved.strides;
}

Extent base_extent(const py::handle& array) {
  const py::handle base = proxy(array).base;
  return base && is_numpy(base) ? bytes_of(base) : Extent{};
}

py::handle numpy_dtype(const py::handle& array) { return proxy(array).descr; }

Array new_numpy_array(const Dims& shape, const Type& type, const py::handle& dtype) {
  Array a;
  a.type = type;
  a.owner = make_array(dtype, type, shape, nullptr, nullptr);
  a.data = proxy(a.owner).data;
  a.shape = shape;
  a.strides = dense_strides(shape);
  return a;
}

Array contiguous(const Array& a) {
  if (a.contiguous()) return a;
  Dims steps = a.strides;
  for (i64* step = steps.begin(); step != steps.end(); ++step) *step *= a.item_bytes();
  Array copy = a;
  copy.owner = copy_in_c_order(make_array({}, a.type, a.shape, a.data, &steps));
  copy.data = proxy(copy.owner).data;
  copy.strides = dense_strides(a.shape);
  return copy;
}

std::string numpy_dtype_text(const py::handle& array) { return py::str(array.attr("dtype")).cast<std::string>(); }

}  // namespace fusedrop::arrays
