// dlpack: see dlpack.hpp.
#include "bind/array/dlpack.hpp"

#include <memory>
#include <string>
#include <vector>

#include "bind/array/dlpack_abi.hpp"
#include "bind/array/dlpack_protocol.hpp"
#include "bind/array/text.hpp"
#include "bind/register.hpp"

namespace fusedrop::bind {
namespace {

std::string dtype_text_of(const py::handle& value) {
  return py::hasattr(value, "dtype") ? py::str(value.attr("dtype")).cast<std::string>() : type_text(value);
}

py::dtype numpy_dtype(const dlpack::DataType& type, const py::handle& value, const char* name, bool booleans) {
  if (booleans && type.lanes == 1 && type.code == dlpack::kBool && type.bits == 8) return py::dtype::of<bool>();
  if (type.lanes == 1 && type.code == dlpack::kFloat && type.bits == 32) return py::dtype::of<float>();
  if (type.lanes == 1 && type.code == dlpack::kFloat && type.bits == 64) return py::dtype::of<double>();
  if (type.lanes == 1 && type.code == dlpack::kBfloat && type.bits == 16) {
    static PyObject* known = nullptr;
    if (known != nullptr) return py::reinterpret_borrow<py::dtype>(known);
    try {
      py::dtype bfloat16 = py::dtype::from_args(py::module_::import("ml_dtypes").attr("bfloat16"));
      known = bfloat16.inc_ref().ptr();  // kept until the process ends
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
  const dlpack::Device device = device_of(value);
  if (device.type == dlpack::kCpu) return;
  throw py::value_error(std::string(name) + " must be on the CPU, this call runs there only; got " +
                        device_text(device, value));
}

py::array numpy_view(const dlpack::Tensor& t, const py::dtype& dtype, const py::handle& base) {
  const std::vector<py::ssize_t> shape(t.shape, t.shape + t.ndim);
  std::vector<py::ssize_t> strides;
  for (int d = 0; t.strides != nullptr && d < t.ndim; ++d) strides.push_back(t.strides[d] * dtype.itemsize());
  return py::array(dtype, shape, strides, static_cast<char*>(t.data) + t.byte_offset, base);
}

// The view by exchange functions; null where they cannot share the array.
py::object exchanged_view(const py::handle& value, const char* name, bool booleans) {
  dlpack::Tensor view{};
  if (!exchange_view(exchange_of(value), value, name, view) || view.device.type != dlpack::kCpu) return {};
  return numpy_view(view, numpy_dtype(view.dtype, value, name, booleans), value);
}

// An array of fusedrop that another library imports with its from_dlpack().
class Export {
 public:
  explicit Export(py::array array) : array_(std::move(array)) {}

  py::tuple device() const { return py::make_tuple(static_cast<int>(dlpack::kCpu), 0); }

  py::capsule capsule(const py::args&, const py::kwargs& options) const {
    const py::object newest = options.contains("max_version") ? options["max_version"] : py::none();
    const bool versioned = !newest.is_none() && newest.cast<std::pair<int, int>>().first >= 1;
    return versioned ? encapsulated<dlpack::ManagedVersioned>() : encapsulated<dlpack::Managed>();
  }

  // The array as the exchange functions make it; it holds a reference to array_.
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
      if (Py_IsInitialized() == 0) return;  // can run after Python has shut down, on any thread
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

}  // namespace

py::object as_array(const py::handle& value, const char* name, bool booleans) {
  if (py::isinstance<py::array>(value) || value.is_none() || PyBool_Check(value.ptr()))
    return py::reinterpret_borrow<py::object>(value);
  if (py::object view = exchanged_view(value, name, booleans)) return view;
  if (!supports_dlpack(value)) return py::reinterpret_borrow<py::object>(value);
  refuse_other_devices(value, name);
  const DLPackTensor imported = import_dlpack(value, name);
  py::array view =
      numpy_view(*imported.tensor, numpy_dtype(imported.tensor->dtype, value, name, booleans), imported.owner);
  if (imported.read_only) view.attr("flags").attr("writeable") = false;
  return std::move(view);
}

ArrayLibrary::ArrayLibrary(const py::handle& operand) {
  if (py::isinstance<py::array>(operand)) return;
  exchange_ = exchange_of(operand);
  if (exchange_ == nullptr && supports_dlpack(operand)) from_dlpack_ = from_dlpack_of(operand);
}

py::object ArrayLibrary::wrap(py::object result) const {
  if ((exchange_ == nullptr && !from_dlpack_) || result.is_none()) return result;
  py::array array = py::reinterpret_borrow<py::array>(result);
  if (exchange_ != nullptr) return Export(std::move(array)).object(*exchange_);
  // NumPy exports its own arrays faster, but it cannot export bfloat16.
  return from_dlpack_(array.itemsize() == 2 ? py::cast(Export(std::move(array))) : std::move(result));
}

void register_dlpack(py::module_& m) {
  py::class_<Export>(m, "Export", "An array of fusedrop that another library imports by DLPack.")
      .def("__dlpack__", &Export::capsule)
      .def("__dlpack_device__", &Export::device);
}

}  // namespace fusedrop::bind
