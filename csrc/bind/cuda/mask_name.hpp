// mask_name: what the argument rng says, for kernels on a GPU: a Philox, or a DevicePhilox, whose seed and step (and
// stream) are read from device memory when the kernel runs.
#pragma once

#include "bind/cuda/library.hpp"
#include "core/mask.hpp"

namespace fusedrop::bind::cuda {

class MaskName {
 public:
  MaskName(const py::handle& rng, const Library& library, fusedrop::cuda::Stream stream);

  // As bind/rng.hpp has them.
  Mask mask(double p, const char* p_name, bool unit, i64 M, i64 N) const;
  Mask input_mask(double p, const char* p_name, bool unit, i64 M, i64 K) const;

  const Operand& drawn() const { return drawn_; }

 private:
  Mask named(Mask mask) const;

  py::object philox_;  // or None
  Operand drawn_;
};

}  // namespace fusedrop::bind::cuda
