// philox: the Python class Philox and the checks of options/philox.hpp. The mask contract is in core/mask.hpp.
#include "bind/options/philox.hpp"

#include <pybind11/operators.h>

#include <array>
#include <cmath>
#include <string>

#include "arrays/text.hpp"
#include "bind/options/arguments.hpp"
#include "bind/register.hpp"

namespace fusedrop::bind {

using namespace arrays;
namespace {

constexpr u64 kMax32 = 0xffffffff;
constexpr u64 kMax64 = ~u64{0};
constexpr u64 kMaxOrigin = u64{1} << 62;

// The arguments of a call, one for each name; null for an argument that was not passed.
template <std::size_t N>
std::array<py::object, N> bind_call(const std::string& function, const char* const (&names)[N], const py::args& args,
                                    const py::kwargs& kwargs) {
  std::array<py::object, N> bound;
  if (args.size() > N)
    throw py::type_error(function + " takes at most " + std::to_string(N) + " arguments; got " +
                         std::to_string(args.size()));
  for (std::size_t i = 0; i < args.size(); ++i) bound[i] = args[i];
  for (const std::pair<py::handle, py::handle> item : kwargs) {
    const auto& [key, value] = item;
    const std::string name = key.cast<std::string>();
    std::size_t i = 0;
    while (i < N && name != names[i]) ++i;
    if (i == N) throw py::type_error(function + " got an unexpected keyword argument '" + name + "'");
    if (bound[i]) throw py::type_error(function + " got multiple values for argument '" + name + "'");
    bound[i] = py::reinterpret_borrow<py::object>(value);
  }
  return bound;
}

// An argument that was not passed keeps its value in `rng`.
Philox with_origin(Philox rng, const py::object& row0, const py::object& col0) {
  if (row0) rng.row0 = integer_in(row0, "row0", 0, kMaxOrigin);
  if (col0) rng.col0 = integer_in(col0, "col0", 0, kMaxCols);
  return rng;
}

Philox with_ties(Philox rng, const py::object& repeat, const py::object& period) {
  if (repeat) rng.repeat = integer_in(repeat, "repeat", 1, kMaxOrigin);
  if (period) rng.period = period.is_none() ? 0 : integer_in(period, "period", 1, kMaxRows);
  return rng;
}

Philox make(const py::args& args, const py::kwargs& kwargs) {
  const auto [seed, stream, step, row0, col0, repeat, period] =
      bind_call("Philox()", {"seed", "stream", "step", "row0", "col0", "repeat", "period"}, args, kwargs);
  if (!seed) throw py::type_error("Philox() missing 1 required argument: 'seed'");
  Philox rng;
  rng.seed = integer_in(seed, "seed", 0, kMax64);
  if (stream) rng.stream = static_cast<u32>(integer_in(stream, "stream", 0, kMax32));
  if (step) rng.step = static_cast<u32>(integer_in(step, "step", 0, kMax32));
  return with_ties(with_origin(rng, row0, col0), repeat, period);
}

Philox at(const Philox& rng, const py::args& args, const py::kwargs& kwargs) {
  const auto [row0, col0] = bind_call("at()", {"row0", "col0"}, args, kwargs);
  Philox origin = rng;
  origin.row0 = origin.col0 = 0;
  return with_origin(origin, row0, col0);
}

Philox tied(const Philox& rng, const py::args& args, const py::kwargs& kwargs) {
  const auto [repeat, period] = bind_call("tied()", {"repeat", "period"}, args, kwargs);
  Philox untied = rng;
  untied.repeat = 1;
  untied.period = 0;
  return with_ties(untied, repeat, period);
}

py::object period_of(const Philox& rng) {
  return rng.period == 0 ? py::object(py::none()) : py::object(py::int_(rng.period));
}

py::tuple fields(const Philox& rng) {
  return py::make_tuple(rng.seed, rng.stream, rng.step, rng.row0, rng.col0, rng.repeat, period_of(rng));
}

Philox next(const Philox& rng) {
  if (rng.step == kMax32)
    throw py::value_error("step must be in [0, 4294967295]; next() of step 4294967295 is beyond it");
  Philox after = rng;
  ++after.step;
  return after;
}

std::string repr_philox(const Philox& rng) {
  std::string text = "Philox(seed=" + std::to_string(rng.seed) + ", stream=" + std::to_string(rng.stream) +
                     ", step=" + std::to_string(rng.step);
  if (rng.row0 != 0) text += ", row0=" + std::to_string(rng.row0);
  if (rng.col0 != 0) text += ", col0=" + std::to_string(rng.col0);
  if (rng.repeat != 1) text += ", repeat=" + std::to_string(rng.repeat);
  if (rng.period != 0) text += ", period=" + std::to_string(rng.period);
  return text + ")";
}

// Philox is constructed by __new__, not by __init__: no instance exists without a key, and none gets another key. With
// pybind11's own __new__, Philox.__new__(Philox) has memory that nobody has initialized.
PyObject* new_philox(PyTypeObject*, PyObject* args, PyObject* kwargs) {
  try {
    const auto named = kwargs == nullptr ? py::kwargs() : py::reinterpret_borrow<py::kwargs>(kwargs);
    return py::cast(make(py::reinterpret_borrow<py::args>(args), named)).release().ptr();
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

constexpr const char* kPhiloxDoc =
    R"(The key of one dropout mask: (seed, stream, step), and the array's origin in the global mask.

Philox(seed, stream=0, step=0, row0=0, col0=0, repeat=1, period=None)

Frozen, hashable, comparable, picklable. It holds no generator state: the mask element at global (row, col) is a pure
function of these integers (docs/mask-contract.md), so the same key gives the same mask again, on any machine.

seed    u64, one per experiment          stream  u32, one per layer or call site
step    u32, one per training call       row0, col0  this array's first row and column in the global mask
repeat, period  rows share a mask: the mask's row is (row // repeat) % period, for masks that are constant over time or
        space

Raises TypeError for a value that is not an integer and ValueError outside these ranges. The generator is
philox4x32-10, Salmon et al. 2011.)";

}  // namespace

u64 integer_in(const py::handle& value, const char* name, u64 low, u64 high) {
  const auto range = [&] { return "[" + std::to_string(low) + ", " + std::to_string(high) + "]"; };
  const bool may_be = !PyBool_Check(value.ptr()) && PyIndex_Check(value.ptr());
  const py::object index = py::reinterpret_steal<py::object>(may_be ? PyNumber_Index(value.ptr()) : nullptr);
  if (!index) {  // also for an array: it has __index__, which raises
    if (may_be) discard_error();
    throw py::type_error(std::string(name) + " must be an integer in " + range() + "; got " + repr_text(value));
  }
  const u64 number = PyLong_AsUnsignedLongLong(index.ptr());
  const bool overflow = PyErr_Occurred() != nullptr;
  if (overflow) discard_error();
  if (overflow || number < low || number > high)
    throw py::value_error(std::string(name) + " must be in " + range() + "; got " + repr_text(value));
  return number;
}

double probability(const py::handle& value, const char* name) {
  const bool number = PyFloat_Check(value.ptr()) || (PyLong_Check(value.ptr()) && !PyBool_Check(value.ptr())) ||
                      py::isinstance(value, py::module_::import("numbers").attr("Real"));
  if (!number || PyBool_Check(value.ptr()))
    throw py::type_error(std::string(name) + " must be a number in [0, 1]; got " + repr_text(value));
  const double p = PyFloat_AsDouble(value.ptr());
  const bool overflow = PyErr_Occurred() != nullptr;  // an integer that is too large for a double
  if (overflow) discard_error();
  if (overflow || !(p >= 0.0 && p <= 1.0))
    throw py::value_error(std::string(name) + " must be in [0, 1]; got " + repr_text(value));
  return p;
}

bool flag(const py::handle& value, const char* name) {
  if (value.ptr() != Py_True && value.ptr() != Py_False)
    throw py::type_error(std::string(name) + " must be True or False; got " + repr_text(value));
  return value.ptr() == Py_True;
}

bool is_unit(const py::handle& granularity) {
  if (py::isinstance<py::str>(granularity)) {
    const std::string name = granularity.cast<std::string>();
    if (name == "element") return false;
    if (name == "unit") return true;
  }
  throw py::value_error("granularity must be 'element' or 'unit'; got " + repr_text(granularity));
}

namespace {

// The caller's Philox, or null for None, which is allowed where nothing is dropped.
const Philox* philox_from(const py::handle& rng, double p, const char* p_name) {
  if (rng.is_none() && p > 0)
    throw py::value_error("rng is required where " + std::string(p_name) +
                          " > 0: pass rng=fusedrop.Philox(seed, ...); got None");
  if (rng.is_none()) return nullptr;
  const auto* key = instance_of<Philox>(rng);
  if (key == nullptr) {
    const std::string got = type_text(rng);
    const bool on_device = got == "DevicePhilox";
    throw py::type_error("rng must be a fusedrop.Philox or None; got " + got +
                         (on_device ? ", a key in a GPU's memory: the CPU cannot read it" : ""));
  }
  return key;
}

Mask mask_of(const Philox* rng, double p, bool unit, i64 M, i64 N) {
  Mask mask;
  mask.threshold = static_cast<u32>(std::nearbyint(p * 65536.0));  // ties to even: the default rounding mode
  mask.unit = unit;
  if (rng == nullptr) return mask;
  const u64 last = rng->row0 + static_cast<u64>(M > 0 ? M - 1 : 0);
  if (M > 0 && !unit && rng->period == 0 && last / rng->repeat >= kMaxRows)
    throw py::value_error("rng.row0 + M must not exceed " + std::to_string(kMaxRows) +
                          " rows of the mask; got row0 = " + std::to_string(rng->row0) + ", M = " + std::to_string(M));
  if (rng->col0 + static_cast<u64>(N) > kMaxCols)
    throw py::value_error("rng.col0 + columns must not exceed 2**35; got col0 = " + std::to_string(rng->col0) +
                          ", columns = " + std::to_string(N));
  mask.seed = rng->seed;
  mask.stream = rng->stream;
  mask.step = rng->step;
  mask.row0 = rng->row0;
  mask.col0 = rng->col0;
  mask.repeat = rng->repeat;
  mask.period = rng->period;
  return mask;
}

}  // namespace

Mask make_mask(const py::handle& rng, double p, const char* p_name, bool unit, i64 M, i64 N) {
  return mask_of(philox_from(rng, p, p_name), p, unit, M, N);
}

Mask make_input_mask(const py::handle& rng, double p, const char* p_name, bool unit, i64 M, i64 K) {
  const Philox* key = philox_from(rng, p, p_name);
  if (key == nullptr) return mask_of(nullptr, p, unit, M, K);
  Philox input = *key;
  input.stream ^= kInputStream;
  input.col0 = 0;
  return mask_of(&input, p, unit, M, K);
}

void register_philox(py::module_& m) {
  py::class_<Philox> philox(m, "Philox", kPhiloxDoc, py::is_final());
  auto* type = reinterpret_cast<PyTypeObject*>(philox.ptr());
  type->tp_new = &new_philox;
  type->tp_init = [](PyObject*, PyObject*, PyObject*) { return 0; };
  philox.def_readonly("seed", &Philox::seed)
      .def_readonly("stream", &Philox::stream)
      .def_readonly("step", &Philox::step)
      .def_readonly("row0", &Philox::row0)
      .def_readonly("col0", &Philox::col0)
      .def_readonly("repeat", &Philox::repeat)
      .def_property_readonly("period", &period_of)
      .def("next", &next, "The key of the next training step's mask.")
      .def("at", &at, "at(row0=0, col0=0): the same mask, for an array that begins at (row0, col0) of it.")
      .def("tied", &tied,
           "tied(repeat=1, period=None): rows share masks: row r has the mask of row (r // repeat) % period.")
      .def("__eq__",
           [](const Philox& a, const py::object& b) {
             return py::isinstance<Philox>(b) && fields(a).equal(fields(b.cast<const Philox&>()));
           })
      .def("__hash__", [](const Philox& rng) { return py::hash(fields(rng)); })
      .def("__repr__", &repr_philox)
      .def("__reduce__", [](const Philox& rng) { return py::make_tuple(py::type::of<Philox>(), fields(rng)); });
}

}  // namespace fusedrop::bind
