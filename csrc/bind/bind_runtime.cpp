// bind_runtime: instruction sets, threads, CUDA state.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <chrono>
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

// GFLOP/s of all threads in use, for about `seconds`: the benchmarks' yardstick.
double fma_peak(const std::string& dtype, double seconds) {
  struct Burst {
    Dtype dtype;
    i64 rounds;
    std::atomic<i64> flop{0};
  } burst{dtype == "float64" ? Dtype::float64 : Dtype::float32, 100'000};
  const auto run = [&] {
    burst.flop = 0;
    const auto start = std::chrono::steady_clock::now();
    cpu::run_threads(
        cpu::get_num_threads(),
        [](int, void* p) {
          Burst& b = *static_cast<Burst*>(p);
          b.flop += cpu::backend().fma_burst(b.dtype, b.rounds);
        },
        &burst);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  py::gil_scoped_release release;
  burst.rounds = static_cast<i64>(static_cast<double>(burst.rounds) * seconds / run()) + 1;
  const double elapsed = run();
  return static_cast<double>(burst.flop) / elapsed * 1e-9;
}

}  // namespace

void register_runtime(py::module_& m) {
  m.def("available_isas", &cpu::available_isas);
  m.def("isa", [] { return cpu::backend().name; });
  m.def("use_isa", &use_isa, py::arg("name"));
  m.def("get_num_threads", &cpu::get_num_threads);
  m.def("set_num_threads", &set_num_threads, py::arg("threads"));
  m.def("fma_peak", &fma_peak, py::arg("dtype"), py::arg("seconds"));
  m.def("cuda_state", [] { return "not built with CUDA"; });
}

}  // namespace fusedrop::bind
