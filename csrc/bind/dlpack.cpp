// dlpack: see dlpack.hpp.
#include "bind/dlpack.hpp"

#include <memory>
#include <string>
#include <vector>

#include "bind/dlpack_abi.hpp"
#include "bind/register.hpp"
#include "bind/text.hpp"

namespace fusedrop::bind {
namespace {

std::string dtype_text_of(const py::handle& value) {
  return py::hasattr(value, "dtype") ? py::str(value.attr("dtype")).cast<std::string>() : type_text(value);
}

py::dtype numpy_dtype(const dlpack::DataType& type, const py::handle& value, const char* name) {
  if (type.lanes == 1 && type.code == dlpack::kFloat && type.bits == 32) return py::dtype::of<float>();
  if (type.lanes == 1 && type.code == dlpack::kFloat && type.bits == 64) return py::dtype::of<double>();
  if (type.lanes == 1 && type.code == dlpack::kBfloat && type.bits == 16) {
    static PyObject* known = nullptr;
    if (known != nullptr) return py::reinterpret_borrow<py::dtype>(known);
    try {
      py::dtype bfloat16 = py::dtype::from_args(py::module_::import("ml_dtypes").attr("bfloat16"));
      known = bfloat16.inc_ref().ptr();  // for the life of the process
      return bfloat16;
    } catch (py::error_already_set& error) {
      if (!error.matches(PyExc_ImportError)) throw;
      throw py::type_error(std::string(name) + " must be float32 or float64 where ml_dtypes is not installed; got " +
                           dtype_text_of(value) + ": pip install 'fusedrop[bfloat16]'");
    }
  }
  throw py::type_error(std::string(name) + " must be an array of float32, float64 or bfloat16; got " +
                       dtype_text_of(value));
}

void refuse_other_devices(const py::handle& value, const char* name) {
  const auto device = value.attr("__dlpack_device__")().cast<std::pair<int, int>>();
  if (device.first == dlpack::kCpu) return;
  const std::string got = py::hasattr(value, "device") ? py::str(value.attr("device")).cast<std::string>()
                                                       : "DLPack device type " + std::to_string(device.first);
  throw py::value_error(std::string(name) + " must be on the CPU, this fusedrop has no CUDA module; got " + got);
}

// The fast way, without Python calls, where the value's class offers it: 20 us less a call with four tensors.
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

// PyTorch's own rule, which its exchange functions leave to the caller. Under no_grad there is no graph to lose.
bool wants_gradient(const py::handle& value) {
  static PyObject* const attribute = PyUnicode_InternFromString("requires_grad");
  const py::object flag = py::reinterpret_steal<py::object>(PyObject_GetAttr(value.ptr(), attribute));
  if (!flag) PyErr_Clear();
  if (!flag || flag.ptr() == Py_False) return false;
  static PyObject* const grad_mode = py::object(py::module_::import("torch").attr("is_grad_enabled")).release().ptr();
  return py::reinterpret_borrow<py::object>(grad_mode)().cast<bool>();
}

py::array view_of(const dlpack::Tensor& t, const py::dtype& dtype, const py::handle& base) {
  const std::vector<py::ssize_t> shape(t.shape, t.shape + t.ndim);
  std::vector<py::ssize_t> strides;
  for (int d = 0; t.strides != nullptr && d < t.ndim; ++d) strides.push_back(t.strides[d] * dtype.itemsize());
  return py::array(dtype, shape, strides, static_cast<char*>(t.data) + t.byte_offset, base);
}

// PyTorch shares a lazily negated view (t.conj().imag) as the memory below it, without a word about the sign.
void refuse_negated(const py::handle& value, const char* name) {
  static PyObject* const method = PyUnicode_InternFromString("is_neg");
  const py::object negated = py::reinterpret_steal<py::object>(PyObject_CallMethodNoArgs(value.ptr(), method));
  if (!negated) PyErr_Clear();  // another library
  if (negated && negated.ptr() == Py_True)
    throw py::value_error(std::string(name) + " must hold its values in memory; got a lazily negated view: call " +
                          name + ".resolve_neg()");
}

// The view by exchange functions, or none: what they cannot share is left to the protocol, which says why.
py::object exchanged(const py::handle& value, const char* name) {
  const dlpack::ExchangeApi* api = exchange_of(value);
  if (api == nullptr || api->view_of == nullptr || wants_gradient(value)) return {};
  dlpack::Tensor view{};
  if (api->view_of(value.ptr(), &view) != 0) {
    PyErr_Clear();
    return {};
  }
  std::int64_t size = 1;
  for (int d = 0; d < view.ndim; ++d) size *= view.shape[d];
  const bool fake = view.data == nullptr && size > 0;  // such as a tensor that only traces
  if (view.device.type != dlpack::kCpu || fake) return {};
  refuse_negated(value, name);
  return view_of(view, numpy_dtype(view.dtype, value, name), value);
}

// Version 1 where the producer has it (it tells read-only memory), else version 0. Producers refuse what they cannot
// share, such as tensors that require a gradient: their words are passed on.
py::object capsule_of(const py::handle& value, const char* name) {
  try {
    try {
      return value.attr("__dlpack__")(py::arg("max_version") = py::make_tuple(1, 0));
    } catch (py::error_already_set& error) {
      if (!error.matches(PyExc_TypeError)) throw;
    }
    return value.attr("__dlpack__")();
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_Exception)) throw;  // Ctrl-C is none of ours
    const std::string text = std::string(name) + " must be an array that DLPack can share; got " + type_text(value) +
                             ": " + py::str(error.value()).cast<std::string>();
    py::raise_from(error, PyExc_ValueError, text.c_str());
    throw py::error_already_set();
  }
}

// Takes the tensor out of its capsule; the array's base gives it back to the producer.
template <class Managed>
py::array adopt(const py::handle& capsule, const py::handle& value, const char* name, bool read_only) {
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule.ptr(), Managed::name));
  if (managed == nullptr) {
    PyErr_Clear();
    throw py::value_error(std::string(name) + " must be an array that DLPack can share; got " + type_text(value) +
                          ", whose __dlpack__ returned no unused DLPack capsule");
  }
  const dlpack::Tensor& t = managed->tensor;
  const py::dtype dtype = numpy_dtype(t.dtype, value, name);  // a refusal leaves the capsule to its producer
  PyCapsule_SetName(capsule.ptr(), Managed::used_name);
  const py::capsule base(managed, [](void* p) {
    auto* m = static_cast<Managed*>(p);
    if (m->deleter != nullptr) m->deleter(m);
  });
  py::array view = view_of(t, dtype, base);
  if (read_only) view.attr("flags").attr("writeable") = false;
  return view;
}

// One of our arrays, for another library's from_dlpack.
class Export {
 public:
  explicit Export(py::array array) : array_(std::move(array)) {}

  py::tuple device() const { return py::make_tuple(static_cast<int>(dlpack::kCpu), 0); }

  py::capsule capsule(const py::args&, const py::kwargs& options) const {
    const py::object newest = options.contains("max_version") ? options["max_version"] : py::none();
    const bool versioned = !newest.is_none() && newest.cast<std::pair<int, int>>().first >= 1;
    return versioned ? encapsulated<dlpack::ManagedVersioned>() : encapsulated<dlpack::Managed>();
  }

  // The array by exchange functions; the other library has its reference now.
  py::object object(const dlpack::ExchangeApi& api) const {
    void* made = nullptr;
    if (api.object_of(managed<dlpack::ManagedVersioned>(), &made) != 0) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(static_cast<PyObject*>(made));
  }

 private:
  template <class Managed>
  struct Holder {
    Managed managed;
    py::array array;
    std::vector<std::int64_t> shape, strides;
  };

  template <class Managed>
  Managed* managed() const {
    auto holder = std::make_unique<Holder<Managed>>();
    holder->array = array_;
    for (int d = 0; d < array_.ndim(); ++d) {
      holder->shape.push_back(array_.shape(d));
      holder->strides.push_back(array_.strides(d) / array_.itemsize());
    }
    Managed& m = holder->managed;
    if constexpr (std::is_same_v<Managed, dlpack::ManagedVersioned>) {
      m.version = {1, 0};
      m.flags = 0;
    }
    const auto bits = static_cast<std::uint8_t>(array_.itemsize() * 8);
    const dlpack::DataType dtype{bits == 16 ? dlpack::kBfloat : dlpack::kFloat, bits, 1};
    m.tensor = {holder->array.mutable_data(),
                {dlpack::kCpu, 0},
                static_cast<int>(array_.ndim()),
                dtype,
                holder->shape.data(),
                holder->strides.data(),
                0};
    m.context = holder.get();
    m.deleter = [](Managed* managed) {
      if (Py_IsInitialized() == 0) return;  // a consumer may let go after Python has, or on any thread
      py::gil_scoped_acquire gil;
      delete static_cast<Holder<Managed>*>(managed->context);
    };
    return &holder.release()->managed;
  }

  template <class Managed>
  py::capsule encapsulated() const {
    return py::capsule(managed<Managed>(), Managed::name, [](PyObject* capsule) {
      if (PyCapsule_IsValid(capsule, Managed::name) == 0) return;  // consumed
      auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, Managed::name));
      managed->deleter(managed);
    });
  }

  py::array array_;
};

std::string library_name(const py::handle& value) {
  const std::string module = py::type::handle_of(value).attr("__module__").cast<std::string>();
  return module.substr(0, module.find('.'));
}

// JAX's arrays never change, but their capsules do not say so.
bool is_immutable(const py::handle& value) {
  const std::string name = library_name(value);
  return name == "jax" || name == "jaxlib";
}

// The function that turns a DLPack producer into an array of this value's library.
py::object from_dlpack_of(const py::handle& value) {
  if (py::hasattr(value, "__array_namespace__")) return value.attr("__array_namespace__")().attr("from_dlpack");
  // A class of the caller's own derives from the library's: the first base whose package has the function.
  for (const py::handle base : py::type::handle_of(value).attr("__mro__").cast<py::tuple>()) {
    const std::string module = base.attr("__module__").cast<std::string>();
    const py::module_ package = py::module_::import(module.substr(0, module.find('.')).c_str());
    if (py::hasattr(package, "from_dlpack")) return package.attr("from_dlpack");
  }
  return {};  // results are NumPy's
}

bool speaks_dlpack(const py::handle& value) {
  return !py::isinstance<py::array>(value) && py::hasattr(value, "__dlpack__") &&
         py::hasattr(value, "__dlpack_device__");
}

}  // namespace

py::object viewed(const py::handle& value, const char* name) {
  if (py::isinstance<py::array>(value) || value.is_none() || PyBool_Check(value.ptr()))
    return py::reinterpret_borrow<py::object>(value);
  if (py::object view = exchanged(value, name)) return view;
  if (!speaks_dlpack(value)) return py::reinterpret_borrow<py::object>(value);
  refuse_negated(value, name);
  refuse_other_devices(value, name);
  const py::object capsule = capsule_of(value, name);
  if (PyCapsule_IsValid(capsule.ptr(), dlpack::ManagedVersioned::name) != 0) {
    const auto* managed =
        static_cast<dlpack::ManagedVersioned*>(PyCapsule_GetPointer(capsule.ptr(), dlpack::ManagedVersioned::name));
    if (managed->version.major != 1)
      throw py::value_error(std::string(name) + " must come as DLPack version 1; got version " +
                            std::to_string(managed->version.major));
    return adopt<dlpack::ManagedVersioned>(capsule, value, name,
                                           (managed->flags & dlpack::kReadOnly) != 0 || is_immutable(value));
  }
  return adopt<dlpack::Managed>(capsule, value, name, is_immutable(value));
}

Library::Library(const py::handle& operand) {
  if (py::isinstance<py::array>(operand)) return;
  exchange_ = exchange_of(operand);
  if (exchange_ == nullptr && speaks_dlpack(operand)) from_dlpack_ = from_dlpack_of(operand);
}

py::object Library::wrap(py::object result) const {
  if ((exchange_ == nullptr && !from_dlpack_) || result.is_none()) return result;
  py::array array = py::reinterpret_borrow<py::array>(result);
  if (exchange_ != nullptr) return Export(std::move(array)).object(*exchange_);
  // NumPy shares what it knows, and faster; bfloat16 it does not.
  return from_dlpack_(array.itemsize() == 2 ? py::cast(Export(std::move(array))) : std::move(result));
}

void register_dlpack(py::module_& m) {
  py::class_<Export>(m, "Export", "An array of fusedrop on its way to another library.")
      .def("__dlpack__", &Export::capsule)
      .def("__dlpack_device__", &Export::device);
}

}  // namespace fusedrop::bind
