// dropout: dropout and dropout_mask for arrays of any rank, viewed as [M,N] with N the last axis.
#include "bind/options/dropout.hpp"
#include "bind/cuda/array/device_library.hpp"
#include "bind/cuda/mask_key.hpp"
#include "bind/cuda/paths.hpp"
#include "bind/cuda/register.hpp"
#include "bind/options/philox.hpp"
#include "cuda/runtime/kernels.hpp"

namespace fusedrop::bind::cuda {
namespace {

using fusedrop::cuda::DeviceGuard;
using fusedrop::cuda::Stream;

py::object dropout(const py::handle& x_given, const py::handle& p_in, const py::handle& rng,
                   const py::handle& granularity, const py::handle& scaling) {
  const DeviceLibrary library(x_given, "x");
  const Stream stream = library.stream();
  const DeviceArray x = library.view(x_given, "x", stream);
  require_floating(x, "x");
  const double p = probability(p_in, "p");
  Flat flat;
  if (!flatten(x.shape, x.strides, flat))
    throw py::value_error(
        "x must have axes before the last that step through memory like one axis, there is no hidden copy on the GPU; "
        "got " +
        shape_text(x) + " with other strides: make it contiguous");
  DropoutArgs args{};
  args.dtype = dtype_of(x);
  args.M = flat.M;
  args.N = flat.N;
  args.x = {x.data, flat.row_stride, flat.col_stride};
  const MaskKey key(rng, library, stream);
  args.mask = key.mask(p, "p", is_unit(granularity), args.M, args.N);
  args.scale = is_inverted(scaling) ? keep_scale(args.mask.threshold) : 1.0;
  require_proved(Path::dropout);
  const DeviceGuard guard(library.device());
  const DeviceArray y = library.empty(x.shape, x.type, stream);
  args.y = y.data;
  {
    py::gil_scoped_release release;
    fusedrop::cuda::dropout(args, stream);
  }
  library.defer_release(stream, {&x, &key.device_key()});
  return library.wrap(y);
}

py::object dropout_mask(const py::handle& shape_in, const py::handle& p_in, const py::handle& rng,
                        const py::handle& granularity, const py::handle& out_given) {
  const DeviceLibrary library(out_given, "out");
  const Stream stream = library.stream();
  const DeviceArray out = library.view(out_given, "out", stream);
  const Shape shape = shape_from(shape_in);
  const double p = probability(p_in, "p");
  const bool unit = is_unit(granularity);
  if (!same_type(out.type, kBoolean)) throw py::type_error("out must be bool; got " + type_name(out.type));
  require_output(out, "out", "shape", shape, kBoolean);
  Flat flat;
  flatten(out.shape, out.strides, flat);
  DropoutMaskArgs args{};
  args.M = flat.M;
  args.N = flat.N;
  args.keep = static_cast<bool*>(out.data);
  const MaskKey key(rng, library, stream);
  args.mask = key.mask(p, "p", unit, args.M, args.N);
  require_proved(Path::dropout);
  const DeviceGuard guard(library.device());
  {
    py::gil_scoped_release release;
    fusedrop::cuda::dropout_mask(args, stream);
  }
  library.defer_release(stream, {&out, &key.device_key()});
  return out.array;
}

}  // namespace

void register_dropout(py::module_& m) {
  m.def("dropout", &dropout, py::arg("x"), py::arg("p"), py::arg("rng"), py::arg("granularity"), py::arg("scaling"));
  m.def("dropout_mask", &dropout_mask, py::arg("shape"), py::arg("p"), py::arg("rng"), py::arg("granularity"),
        py::arg("out"));
}

}  // namespace fusedrop::bind::cuda
