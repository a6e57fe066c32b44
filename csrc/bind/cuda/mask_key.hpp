// mask_key: the argument rng, for kernels on a GPU: a Philox, or a DevicePhilox, whose seed and step (and stream) are
// read from device memory when the kernel runs.
#pragma once

#include "bind/cuda/array/device_library.hpp"
#include "core/mask.hpp"

namespace fusedrop::bind::cuda {

class MaskKey {
 public:
  MaskKey(const py::handle& rng, const DeviceLibrary& library, fusedrop::cuda::Stream stream);

  // The same as make_mask and make_input_mask of bind/options/philox.hpp.
  Mask mask(double p, const char* p_name, bool unit, i64 M, i64 N) const;
  Mask input_mask(double p, const char* p_name, bool unit, i64 M, i64 K) const;

  const DeviceArray& device_key() const { return device_key_; }

 private:
  Mask with_key(Mask mask) const;

  py::object philox_;  // or None
  DeviceArray device_key_;
};

}  // namespace fusedrop::bind::cuda
