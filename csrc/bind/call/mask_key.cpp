// mask_key: see mask_key.hpp.
#include "bind/call/mask_key.hpp"

#include "bind/options/philox.hpp"
#include "devices/backend.hpp"

namespace fusedrop::bind {
namespace {

SavedArray device_key_of(const py::handle& rng, const Call& call) {
  const py::object drawn = rng.attr("drawn");
  SavedArray device_key;
  device_key = call.view(drawn, "rng.drawn");
  if (!device_key.owner) device_key.owner = drawn;
  device_key.save(drawn);
  if (device_key.type != kInt64) throw py::type_error("rng.drawn must be int64; got " + type_name(device_key.type));
  if (device_key.rank() != 1 || (device_key.shape[0] != 2 && device_key.shape[0] != 3))
    throw py::value_error("rng.drawn must be [2] = (seed, step) or [3] = (seed, step, stream); got " +
                          shape_text(device_key.shape));
  if (!device_key.contiguous()) throw py::value_error("rng.drawn must be C-contiguous; got other strides");
  return device_key;
}

}  // namespace

MaskKey::MaskKey(const py::handle& rng, const Call& call) : philox_(py::reinterpret_borrow<py::object>(rng)) {
  if (!call.on_device() || !is_device_philox(rng)) return;
  device_key_ = device_key_of(rng, call);
  philox_ = rng.attr("origin");
  if (device_key_.shape[0] == 3 && philox_.attr("stream").cast<u32>() != 0)
    throw py::value_error("rng.stream must be left out where rng.drawn [3] holds the stream; got " +
                          py::str(philox_.attr("stream")).cast<std::string>());
}

Mask MaskKey::with_key(Mask mask) const {
  if (!device_key_) return mask;
  mask.device_key = static_cast<const i64*>(device_key_.data);
  mask.device_key_has_stream = device_key_.shape[0] == 3;
  return mask;
}

Mask MaskKey::mask(double p, const char* p_name, bool unit, i64 M, i64 N) const {
  return with_key(make_mask(philox_, p, p_name, unit, M, N));
}

Mask MaskKey::input_mask(double p, const char* p_name, bool unit, i64 M, i64 K) const {
  return with_key(make_input_mask(philox_, p, p_name, unit, M, K));
}

}  // namespace fusedrop::bind
