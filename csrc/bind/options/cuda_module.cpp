// cuda_module: see cuda_module.hpp.
#include "bind/options/cuda_module.hpp"

#include <string>

#include "bind/array/dlpack_protocol.hpp"
#include "bind/array/text.hpp"

namespace fusedrop::bind {
namespace {

constexpr const char* kModule = "fusedrop._cuda";

py::object cuda_module(const py::handle& operand, const char* operand_name) {
  static PyObject* const name = PyUnicode_InternFromString(kModule);
  py::object module = py::reinterpret_steal<py::object>(PyImport_GetModule(name));
  if (module && !module.is_none()) return module;
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  try {
    return py::module_::import(kModule);
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_ImportError)) throw;
    const std::string why = error.matches(PyExc_ModuleNotFoundError)
                                ? "build it where nvcc 12 or later is found, with FUSEDROP_CUDA=ON"
                                : py::str(error.value()).cast<std::string>();
    const std::string text = std::string(operand_name) + " must be on the CPU, this fusedrop has no CUDA module (" +
                             why + "); got " + device_text(device_of(operand), operand);
    py::raise_from(error, PyExc_ValueError, text.c_str());
    throw py::error_already_set();
  }
}

}  // namespace

bool foreign_array_on_cuda(const py::handle& value) {
  dlpack::Tensor view{};
  const dlpack::ExchangeApi* api = exchange_of(value);
  if (api != nullptr && api->view_of != nullptr) {
    if (api->view_of(value.ptr(), &view) == 0) return view.device.type == dlpack::kCuda;
    PyErr_Clear();
  }
  if (PyBool_Check(value.ptr()) || value.is_none() || !supports_dlpack(value)) return false;
  return device_of(value).type == dlpack::kCuda;
}

bool is_cuda_context(const py::handle& value) {
  static PyObject* const name = PyUnicode_InternFromString(kModule);
  const py::object module = py::reinterpret_steal<py::object>(PyImport_GetModule(name));
  return module && !module.is_none() && py::isinstance(value, module.attr("LinearContext"));
}

py::object cuda_function(const char* function, const py::handle& operand, const char* operand_name) {
  return cuda_module(operand, operand_name).attr(function);
}

}  // namespace fusedrop::bind
