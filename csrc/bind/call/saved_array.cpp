// saved_array: see saved_array.hpp.
#include "bind/call/saved_array.hpp"

#include <cstdint>

#include "arrays/dlpack.hpp"
#include "arrays/numpy.hpp"

namespace fusedrop::bind {

using namespace arrays;
namespace {

// A tensor of the same storage that nobody else can give other storage. Libraries whose arrays always keep their
// storage (JAX, CuPy) have no such method.
py::object alias_of(const py::handle& value) {
  static PyObject* const detach = PyUnicode_InternFromString("detach");
  PyObject* alias = PyObject_CallMethodNoArgs(value.ptr(), detach);
  if (alias != nullptr) return py::reinterpret_steal<py::object>(alias);
  if (PyErr_ExceptionMatches(PyExc_AttributeError) == 0) throw py::error_already_set();
  PyErr_Clear();
  return py::reinterpret_borrow<py::object>(value);
}

// The address of a tensor's memory now. Its storage can be resized through any other tensor of that storage.
const void* address_of(const py::handle& tensor, const Array& saved) {
  const dlpack::ExchangeApi* api = exchange_of(tensor);
  if (api != nullptr && api->view_of != nullptr) {
    const dlpack::Tensor now = exchange_tensor(*api, tensor);
    return static_cast<char*>(now.data) + now.byte_offset;
  }
  if (!py::hasattr(tensor, "data_ptr")) return saved.data;
  return reinterpret_cast<const void*>(tensor.attr("data_ptr")().cast<std::uintptr_t>());
}

// Whether the storage of a tensor still holds all of what was saved. The address alone does not tell: a storage that
// was freed and allocated again with fewer bytes often gets the same address.
bool storage_holds(const py::handle& tensor, const Array& saved) {
  static PyObject* const untyped_storage = PyUnicode_InternFromString("untyped_storage");
  static PyObject* const nbytes = PyUnicode_InternFromString("nbytes");
  static PyObject* const storage_offset = PyUnicode_InternFromString("storage_offset");
  const auto call = [](const py::handle& object, PyObject* method) {
    return py::reinterpret_steal<py::object>(PyObject_CallMethodNoArgs(object.ptr(), method));
  };
  const py::object storage = call(tensor, untyped_storage);
  if (!storage) {
    discard_error();
    return true;  // another library
  }
  const py::object bytes = call(storage, nbytes), offset = call(tensor, storage_offset);
  if (!bytes || !offset) throw py::error_already_set();
  const i64 before = offset.cast<i64>() * saved.item_bytes();
  return before + (extent(saved).second - static_cast<const char*>(saved.data)) <= bytes.cast<i64>();
}

bool is_unchanged_tensor(const py::handle& tensor, const Array& saved) {
  return address_of(tensor, saved) == saved.data && storage_holds(tensor, saved);
}

}  // namespace

void SavedArray::save(const py::handle& value) {
  if (!*this) return;
  copied_from = {};
  object = is_numpy(value) ? owner : alias_of(value);
  if (is_numpy(value)) base = base_extent(owner);
  if (!owner) owner = object;
}

void SavedArray::require_unchanged(const char* name) const {
  const py::object& now = object ? object : owner;
  if (!*this || !now || size() == 0) return;
  const bool unchanged =
      is_numpy(now) ? is_unchanged(now, *this) && base_extent(now) == base : is_unchanged_tensor(now, *this);
  if (!unchanged)
    throw py::value_error(std::string(name) + " must stay " + shape_text(shape) +
                          " in the same memory from forward to backward; it was resized, reshaped or freed in between: "
                          "pass a copy to forward");
}

}  // namespace fusedrop::bind
