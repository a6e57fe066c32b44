// dlpack: see dlpack.hpp.
#include "arrays/dlpack.hpp"

#include <pybind11/gil_safe_call_once.h>

#include "arrays/numpy.hpp"

namespace fusedrop::arrays {
namespace {

// Whether PyTorch refuses to share the tensor: it requires a gradient, and autograd records. Exchange functions leave
// this check to the caller. Under no_grad there is no graph to lose.
bool requires_gradient(const py::handle& value) {
  static PyObject* const attribute = PyUnicode_InternFromString("requires_grad");
  const py::object flag = py::reinterpret_steal<py::object>(PyObject_GetAttr(value.ptr(), attribute));
  if (!flag) discard_error();
  if (!flag || flag.ptr() == Py_False) return false;
  // An import can release the GIL, so a plain static would deadlock with a second thread that waits for it.
  PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<py::object> grad_mode;
  grad_mode.call_once_and_store_result([] { return py::module_::import("torch").attr("is_grad_enabled"); });
  return grad_mode.get_stored()().cast<bool>();
}

// The view of a tensor that `owner` keeps alive. The memory of an array without elements may have no address.
Array array_from(const dlpack::Tensor& t, const py::handle& value, const char* name, py::object owner) {
  Array a;
  a.type = t.dtype;
  a.device = t.device;
  a.shape = Dims(t.shape, t.ndim);
  a.strides = t.strides == nullptr ? dense_strides(a.shape) : Dims(t.strides, t.ndim);
  a.owner = std::move(owner);
  alignas(64) static char nothing[64];
  const bool empty = a.size() == 0;
  if (t.data == nullptr && !empty)
    throw py::value_error(std::string(name) + " must have its values in memory; got " + type_text(value) + " " +
                          shape_text(a.shape) + " without storage (a null pointer)");
  a.data = t.data == nullptr ? nothing : static_cast<char*>(t.data) + t.byte_offset;
  return a;
}

// PyTorch exports a lazily negated view (t.conj().imag) as the memory below it, without a flag for the sign.
void refuse_negated(const py::handle& value, const char* name) {
  static PyObject* const method = PyUnicode_InternFromString("is_neg");
  const py::object negated = py::reinterpret_steal<py::object>(PyObject_CallMethodNoArgs(value.ptr(), method));
  if (!negated) discard_error();  // another library
  if (negated && negated.ptr() == Py_True)
    throw py::value_error(std::string(name) + " must hold its values in memory; got a lazily negated view: call " +
                          name + ".resolve_neg()");
}

// Libraries raise errors for arrays that they cannot share, such as tensors that require a gradient or have no device:
// the text of the library's error becomes part of fusedrop's.
[[noreturn]] void refuse_unshared(py::error_already_set& error, const py::handle& value, const char* name) {
  if (!error.matches(PyExc_Exception)) throw;  // Ctrl-C, for example
  const std::string text = std::string(name) + " must be an array that DLPack can share; got " + type_text(value) +
                           ": " + py::str(error.value()).cast<std::string>();
  py::raise_from(error, PyExc_ValueError, text.c_str());
  throw py::error_already_set();
}

// The capsule of version 1 where the library offers it (only version 1 has a flag for read-only memory), else of
// version 0.
py::object capsule_of(const py::handle& value, const char* name, const py::dict& options) {
  try {
    try {
      return value.attr("__dlpack__")(**options, py::arg("max_version") = py::make_tuple(1, 0));
    } catch (py::error_already_set& error) {
      if (!error.matches(PyExc_TypeError)) throw;
    }
    return value.attr("__dlpack__")(**options);
  } catch (py::error_already_set& error) {
    refuse_unshared(error, value, name);
  }
}

// Takes over the tensor of a capsule, which is marked as used.
template <class Managed>
Array consume_capsule(const py::handle& capsule, const py::handle& value, const char* name) {
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule.ptr(), Managed::name));
  PyCapsule_SetName(capsule.ptr(), Managed::used_name);
  py::capsule owner(managed, [](void* p) {
    auto* m = static_cast<Managed*>(p);
    if (m->deleter != nullptr) m->deleter(m);
  });
  return array_from(managed->tensor, value, name, std::move(owner));
}

// JAX's arrays are immutable, but their capsules do not set the read-only flag.
bool is_immutable(const py::handle& value) {
  const std::string module = py::type::handle_of(value).attr("__module__").cast<std::string>();
  const std::string package = module.substr(0, module.find('.'));
  return package == "jax" || package == "jaxlib";
}

}  // namespace

const dlpack::ExchangeApi* exchange_of(const py::handle& value) {
  static PyObject* const attribute = PyUnicode_InternFromString("__dlpack_c_exchange_api__");
  PyObject* found = PyObject_GetAttr(reinterpret_cast<PyObject*>(Py_TYPE(value.ptr())), attribute);
  const py::object capsule = py::reinterpret_steal<py::object>(found);
  if (!capsule) PyErr_Clear();
  if (!capsule || PyCapsule_IsValid(capsule.ptr(), dlpack::ExchangeApi::name) == 0) return nullptr;
  const auto* api =
      static_cast<const dlpack::ExchangeApi*>(PyCapsule_GetPointer(capsule.ptr(), dlpack::ExchangeApi::name));
  return api->version.major == 1 ? api : nullptr;
}

dlpack::Tensor exchange_tensor(const dlpack::ExchangeApi& api, const py::handle& value) {
  dlpack::Tensor tensor{};
  if (api.view_of(value.ptr(), &tensor) != 0) throw py::error_already_set();
  return tensor;
}

Array exchange_view(const dlpack::ExchangeApi* api, const py::handle& value, const char* name) {
  dlpack::Tensor view{};
  if (api == nullptr || api->view_of == nullptr || requires_gradient(value)) return {};
  if (api->view_of(value.ptr(), &view) != 0) {
    discard_error();
    return {};
  }
  i64 size = 1;
  for (int d = 0; d < view.ndim; ++d) size *= view.shape[d];
  if (view.data == nullptr && size > 0) return {};  // such as a tensor of a compiler's trace
  refuse_negated(value, name);
  return array_from(view, value, name, {});
}

bool supports_dlpack(const py::handle& value) {
  return !is_numpy(value) && py::hasattr(value, "__dlpack__") && py::hasattr(value, "__dlpack_device__");
}

Array import_dlpack(const py::handle& value, const char* name, const py::dict& options) {
  refuse_negated(value, name);
  const py::object capsule = capsule_of(value, name, options);
  if (PyCapsule_IsValid(capsule.ptr(), dlpack::Managed::name) != 0) {
    Array a = consume_capsule<dlpack::Managed>(capsule, value, name);
    a.read_only = is_immutable(value);
    return a;
  }
  if (PyCapsule_IsValid(capsule.ptr(), dlpack::ManagedVersioned::name) == 0)
    throw py::value_error(std::string(name) + " must be an array that DLPack can share; got " + type_text(value) +
                          ", whose __dlpack__ returned no unused DLPack capsule");
  const auto* managed =
      static_cast<dlpack::ManagedVersioned*>(PyCapsule_GetPointer(capsule.ptr(), dlpack::ManagedVersioned::name));
  if (managed->version.major != 1)
    throw py::value_error(std::string(name) + " must come as DLPack version 1; got version " +
                          std::to_string(managed->version.major));
  const bool read_only = (managed->flags & dlpack::kReadOnly) != 0;
  Array a = consume_capsule<dlpack::ManagedVersioned>(capsule, value, name);
  a.read_only = read_only || is_immutable(value);
  return a;
}

py::object from_dlpack_of(const py::handle& value) {
  if (py::hasattr(value, "__array_namespace__")) return value.attr("__array_namespace__")().attr("from_dlpack");
  // The caller's class can be derived from the library's: take the first base whose package has the function.
  for (const py::handle base : py::type::handle_of(value).attr("__mro__").cast<py::tuple>()) {
    const std::string module = base.attr("__module__").cast<std::string>();
    const py::module_ package = py::module_::import(module.substr(0, module.find('.')).c_str());
    if (py::hasattr(package, "from_dlpack")) return package.attr("from_dlpack");
  }
  return {};  // results are NumPy arrays
}

dlpack::Device device_of(const py::handle& value, const char* name) {
  try {
    const auto [type, id] = value.attr("__dlpack_device__")().cast<std::pair<int, int>>();
    return {type, id};
  } catch (py::error_already_set& error) {
    refuse_unshared(error, value, name);
  } catch (const py::cast_error&) {
    throw py::value_error(std::string(name) + " must be an array that DLPack can share; got " + type_text(value) +
                          ", whose __dlpack_device__ returned no pair of integers");
  }
}

std::string device_text(const dlpack::Device& device, const py::handle& value) {
  if (device.type == dlpack::kCpu) return "the CPU";
  if (device.type == dlpack::kCuda) return "cuda:" + std::to_string(device.id);
  if (py::hasattr(value, "device")) return py::str(value.attr("device")).cast<std::string>();
  return "DLPack device type " + std::to_string(device.type);
}

}  // namespace fusedrop::arrays
