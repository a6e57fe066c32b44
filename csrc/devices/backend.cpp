// backend: see backend.hpp.
#include "devices/backend.hpp"

#include <set>
#include <utility>

#include "arrays/text.hpp"

namespace fusedrop::devices {
namespace {

// The GIL protects all of this. Python objects are never released: Python may have ended by then.
struct Connection {
  const DeviceBackend* backend = nullptr;
  py::object module;  // the capsule, which keeps the module's table alive
  py::object load, verify, adapter_of, device_philox;
  std::set<std::pair<int, std::string>> verified;
};

Connection& connection() {
  static auto& only = *new Connection;
  return only;
}

// fusedrop.cuda calls this when it is imported. C++ calls load(), verify(device, kernel) and adapter_of(array).
void connect_devices(const py::object& load, const py::object& verify, const py::object& adapter_of,
                     const py::object& device_philox) {
  Connection& c = connection();
  c.load = load, c.verify = verify, c.adapter_of = adapter_of, c.device_philox = device_philox;
}

void register_device(const py::capsule& capsule) {
  const auto* backend =
      static_cast<const DeviceBackend*>(PyCapsule_GetPointer(capsule.ptr(), DeviceBackend::capsule_name));
  if (backend == nullptr) throw py::error_already_set();
  if (std::string(backend->version) != FUSEDROP_VERSION)
    throw py::import_error("the device module is of fusedrop " + std::string(backend->version) +
                           " and fusedrop._core of " + FUSEDROP_VERSION + ": install both from one build");
  connection().module = capsule;
  connection().backend = backend;
  connection().verified.clear();
}

void unregister_device() {
  connection().backend = nullptr;
  connection().verified.clear();
}

thread_local bool verifying = false;  // this thread runs verify(), whose calls are not verified again

struct Verifying {
  Verifying() { verifying = true; }
  ~Verifying() { verifying = false; }
};

}  // namespace

const DeviceBackend* registered_backend() { return connection().backend; }

const DeviceBackend& load_backend() {
  if (connection().backend == nullptr && connection().load) connection().load();
  if (connection().backend == nullptr) throw py::import_error("no device module was registered");
  return *connection().backend;
}

void require_verified(int device, const std::string& kernel) {
  if (verifying || connection().verified.count({device, kernel}) != 0) return;
  if (connection().verify) {
    const Verifying now;
    connection().verify(device, kernel);
  }
  connection().verified.insert({device, kernel});
}

bool is_verifying() { return verifying; }

py::object adapter_of(const py::handle& array) {
  const py::object adapter = connection().adapter_of ? connection().adapter_of(array) : py::none();
  return adapter.is_none() ? py::object() : adapter;
}

bool is_device_philox(const py::handle& rng) {
  return connection().device_philox.ptr() == reinterpret_cast<PyObject*>(Py_TYPE(rng.ptr()));
}

void register_backend(py::module_& m) {
  m.def("connect_devices", &connect_devices, py::arg("load"), py::arg("verify"), py::arg("adapter_of"),
        py::arg("device_philox"));
  m.def("register_device", &register_device, py::arg("backend"),
        "From now on, arrays in the memory of this module's devices are computed by its kernels.");
  m.def("unregister_device", &unregister_device);
}

}  // namespace fusedrop::devices
