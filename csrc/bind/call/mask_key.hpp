// mask_key: the argument rng: a Philox, or on a device a DevicePhilox, whose seed and step (and stream) the kernel
// reads from the device's memory when it runs.
#pragma once

#include "bind/call/call.hpp"
#include "bind/call/saved_array.hpp"
#include "core/mask.hpp"

namespace fusedrop::bind {

class MaskKey {
 public:
  MaskKey(const py::handle& rng, const Call& call);

  // The same as make_mask and make_input_mask of bind/options/philox.hpp.
  Mask mask(double p, const char* p_name, bool unit, i64 M, i64 N) const;
  Mask input_mask(double p, const char* p_name, bool unit, i64 M, i64 K) const;

  const SavedArray& device_key() const { return device_key_; }  // none for a Philox

 private:
  Mask with_key(Mask mask) const;

  py::object philox_;  // or None
  SavedArray device_key_;
};

}  // namespace fusedrop::bind
