// rng: the Python class Philox, which names one mask, and the checks of options that go with it.
#pragma once

#include <pybind11/pybind11.h>

#include "core/mask.hpp"

namespace fusedrop::bind {

namespace py = pybind11;

struct Philox {
  u64 seed = 0;
  u32 stream = 0;
  u32 step = 0;
  u64 row0 = 0;
  u64 col0 = 0;
  u64 repeat = 1;
  u64 period = 0;  // 0: none
};

// A whole number in [low, high]; TypeError for what is no integer, ValueError beyond the range.
u64 whole(const py::handle& value, const char* name, u64 low, u64 high);
double probability(const py::handle& value, const char* name);  // 0 <= p <= 1, else an error
bool flag(const py::handle& value, const char* name);          // True or False, else an error
bool is_unit(const py::handle& granularity);                    // "element" or "unit", else an error

// The mask over an array [M,N]. rng may be None where p = 0; `p_name` is the argument that asks for it.
Mask make_mask(const py::handle& rng, double p, const char* p_name, bool unit, i64 M, i64 N);

// The mask over a layer's input [M,K]: the stream's top bit flipped, columns from 0 (rng.col0 is where y's begin).
Mask make_input_mask(const py::handle& rng, double p, const char* p_name, bool unit, i64 M, i64 K);

}  // namespace fusedrop::bind
