// mask_name: see mask_name.hpp.
#include "bind/cuda/mask_name.hpp"

#include "bind/rng.hpp"

namespace fusedrop::bind::cuda {
namespace {

PyObject* device_philox_type() {
  static PyObject* const type =
      py::object(py::module_::import("fusedrop.cuda").attr("DevicePhilox")).release().ptr();  // for the process's life
  return type;
}

Operand drawn_of(const py::handle& rng, const Library& library, fusedrop::cuda::Stream stream) {
  Operand drawn = library.view(rng.attr("drawn"), "rng.drawn", stream);
  constexpr dlpack::DataType wanted{dlpack::kInt, 64, 1};
  if (!same_type(drawn.type, wanted)) throw py::type_error("rng.drawn must be int64; got " + type_name(drawn.type));
  if (drawn.rank() != 1 || (drawn.shape[0] != 2 && drawn.shape[0] != 3))
    throw py::value_error("rng.drawn must be [2] = (seed, step) or [3] = (seed, step, stream); got " +
                          shape_text(drawn));
  if (!drawn.contiguous()) throw py::value_error("rng.drawn must be C-contiguous; got other strides");
  return drawn;
}

}  // namespace

MaskName::MaskName(const py::handle& rng, const Library& library, fusedrop::cuda::Stream stream)
    : philox_(py::reinterpret_borrow<py::object>(rng)) {
  if (rng.is_none() || reinterpret_cast<PyObject*>(Py_TYPE(rng.ptr())) != device_philox_type()) return;
  drawn_ = drawn_of(rng, library, stream);
  philox_ = rng.attr("origin");
  if (drawn_.shape[0] == 3 && philox_.attr("stream").cast<u32>() != 0)
    throw py::value_error("rng.stream must be left out where rng.drawn [3] holds the stream; got " +
                          py::str(philox_.attr("stream")).cast<std::string>());
}

Mask MaskName::named(Mask mask) const {
  if (drawn_.data == nullptr) return mask;
  mask.drawn = static_cast<const i64*>(drawn_.data);
  mask.draws_stream = drawn_.shape[0] == 3;
  return mask;
}

Mask MaskName::mask(double p, const char* p_name, bool unit, i64 M, i64 N) const {
  return named(make_mask(philox_, p, p_name, unit, M, N));
}

Mask MaskName::input_mask(double p, const char* p_name, bool unit, i64 M, i64 K) const {
  return named(make_input_mask(philox_, p, p_name, unit, M, K));
}

}  // namespace fusedrop::bind::cuda
