// bind_runtime: instruction sets, threads, CUDA state.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>

#include "bind/register.hpp"
#include "bind/text.hpp"
#include "cpu/dispatch.hpp"
#include "cpu/threads.hpp"

namespace fusedrop::bind {
namespace {

namespace py = pybind11;

void use_isa(const std::string& name) {
  if (cpu::use_isa(name)) return;
  std::string known;
  for (const std::string& isa : cpu::available_isas()) known += (known.empty() ? "" : ", ") + isa;
  throw py::value_error("isa must be one of those available on this CPU (" + known + "); got '" + name + "'");
}

void set_num_threads(const py::object& threads) {
  if (PyBool_Check(threads.ptr()) || !PyIndex_Check(threads.ptr()))
    throw py::type_error("threads must be an integer from 1 to 4096, or 0 for the default; got " + repr_text(threads));
  const long n = py::int_(threads).cast<long>();
  if (n < 0 || n > 4096)
    throw py::value_error("threads must be from 1 to 4096, or 0 for the default; got " + std::to_string(n));
  cpu::set_num_threads(static_cast<int>(n));
}

}  // namespace

void register_runtime(py::module_& m) {
  m.def("available_isas", &cpu::available_isas);
  m.def("isa", [] { return cpu::backend().name; });
  m.def("use_isa", &use_isa, py::arg("name"));
  m.def("get_num_threads", &cpu::get_num_threads);
  m.def("set_num_threads", &set_num_threads, py::arg("threads"));
  m.def("cuda_state", [] { return "not built with CUDA"; });
}

}  // namespace fusedrop::bind
