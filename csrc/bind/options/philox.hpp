// philox: the Python class Philox, the key of one mask, and the checks of the options of dropout.
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

// An integer in [low, high]; TypeError for a value of another type, ValueError outside the range.
u64 integer_in(const py::handle& value, const char* name, u64 low, u64 high);
double probability(const py::handle& value, const char* name);  // 0 <= p <= 1, else an error
bool flag(const py::handle& value, const char* name);           // True or False, else an error
bool is_unit(const py::handle& granularity);                    // "element" or "unit", else an error

// The mask over an array [M,N]. rng can be None where p = 0; the error otherwise calls the argument p by `p_name`.
Mask make_mask(const py::handle& rng, double p, const char* p_name, bool unit, i64 M, i64 N);

// The mask over a layer's input [M,K]: the stream's top bit is flipped, and columns count from 0 (rng.col0 is the first
// column of y).
Mask make_input_mask(const py::handle& rng, double p, const char* p_name, bool unit, i64 M, i64 K);

}  // namespace fusedrop::bind
