// runtime: instruction sets and threads.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <chrono>
#include <string>

#include "arrays/text.hpp"
#include "bind/options/philox.hpp"
#include "bind/register.hpp"
#include "cpu/runtime/dispatch.hpp"
#include "cpu/runtime/threads.hpp"

namespace fusedrop::bind {

using namespace arrays;
namespace {

namespace py = pybind11;

void set_isa(const py::object& name) {
  if (py::isinstance<py::str>(name) && cpu::set_isa(name.cast<std::string>())) return;
  std::string known;
  for (const std::string& isa : cpu::available_isas()) known += (known.empty() ? "" : ", ") + isa;
  const std::string text = "isa must be one of those available on this CPU (" + known + "); got " + repr_text(name);
  if (py::isinstance<py::str>(name)) throw py::value_error(text);
  throw py::type_error(text);
}

void set_num_threads(const py::object& threads) {
  cpu::set_num_threads(static_cast<int>(integer_in(threads, "threads", 0, 4096)));
}

// GFLOP/s that all threads reach with multiply-adds in registers, measured for about `seconds`. Benchmarks compare with
// this peak.
double fma_peak(const std::string& dtype, double seconds) {
  if (dtype != "float32" && dtype != "float64" && dtype != "bfloat16")
    throw py::value_error("dtype must be float32, float64 or bfloat16; got " + dtype);
  const Dtype type = dtype == "float64" ? Dtype::float64 : dtype == "bfloat16" ? Dtype::bfloat16 : Dtype::float32;
  i64 rounds = 100'000;
  std::atomic<i64> flop{0};
  const auto run = [&] {
    flop = 0;
    const auto start = std::chrono::steady_clock::now();
    cpu::parallel_for(cpu::get_num_threads(), [&](int) { flop += cpu::backend().fma_burst(type, rounds); });
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  py::gil_scoped_release release;
  rounds = static_cast<i64>(static_cast<double>(rounds) * seconds / run()) + 1;
  const double elapsed = run();
  return static_cast<double>(flop) / elapsed * 1e-9;
}

}  // namespace

void register_runtime(py::module_& m) {
  m.def("available_isas", &cpu::available_isas,
        "The instruction sets that this CPU can run, from the slowest to the fastest: scalar, avx2, avx512, "
        "avx512_bf16.");
  m.def("get_isa", [] { return cpu::backend().name; }, "The instruction set in use.");
  m.def(
      "set_isa", &set_isa, py::arg("name"),
      "Runs all kernels on one of available_isas() from now on; masks are the same on each. The environment variable\n"
      "FUSEDROP_ISA does the same at import. ValueError for an instruction set that this CPU does not have.");
  m.def("get_num_threads", &cpu::get_num_threads, "The maximum number of threads of a call.");
  m.def("set_num_threads", &set_num_threads, py::arg("threads"),
        "Sets the maximum number of threads of a call, up to 4096; 0: OpenMP's default, OMP_NUM_THREADS or the number "
        "of\n"
        "cores. Results do not depend on it.");
  m.def("fma_peak", &fma_peak, py::arg("dtype"), py::arg("seconds"));
}

}  // namespace fusedrop::bind
