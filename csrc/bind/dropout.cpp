// dropout: dropout, dropout_backward and dropout_mask for arrays of any rank. Kernels get them as a matrix [M,N], N the
// last axis.
#include "bind/options/dropout.hpp"

#include "arrays/dlpack.hpp"
#include "arrays/numpy.hpp"
#include "bind/call/mask_key.hpp"
#include "bind/options/arguments.hpp"
#include "bind/options/philox.hpp"
#include "bind/register.hpp"
#include "core/params/elementwise.hpp"

namespace fusedrop::bind {

using namespace arrays;
namespace {

// x as a matrix; an array whose leading axes are not one axis is copied on the CPU, and refused on a device.
Array flattened(const Call& call, Array x, const char* name, Flat& flat) {
  if (flatten(x, flat)) return x;
  if (call.on_device())
    throw py::value_error(std::string(name) +
                          " must have axes before the last that step through memory like one axis, there is no hidden "
                          "copy on the GPU; got " +
                          shape_text(x.shape) + " with other strides: make it contiguous");
  Array copy = contiguous(x);
  flatten(copy, flat);
  return copy;
}

// keep ? x * scale : 0. The argument x is called `name`: the backward call does the same to dy.
py::object run_dropout(const Arguments<5>& arguments, const char* name) {
  const auto& [x_arg, p_arg, rng, granularity, scaling] = arguments;
  const Library library(x_arg, name);
  const Call call(library);
  Flat flat;
  const double p = probability(p_arg, "p");  // before x is viewed, see linear.cpp
  const Array x = flattened(call, call.floating(x_arg, name), name, flat);
  DropoutArgs args{};
  args.dtype = dtype_of(x);
  args.M = flat.M;
  args.N = flat.N;
  args.x = {x.data, flat.row_stride, flat.col_stride};
  const MaskKey key(rng, call);
  args.mask = key.mask(p, "p", is_unit(granularity), args.M, args.N);
  args.scale = is_inverted(scaling) ? keep_scale(args.mask.threshold) : 1.0;
  call.require_verified([&] { return "dropout " + type_name(x.type); });
  const Array y = call.empty(x.shape, x.type);
  args.y = y.data;
  call.run(kernels::dropout, args, {&x, &key.device_key(), &y});
  return call.wrap(y);
}

py::object dropout(const Arguments<5>& arguments) { return run_dropout(arguments, "x"); }
py::object dropout_backward(const Arguments<5>& arguments) { return run_dropout(arguments, "dy"); }

// The caller's array for a mask, or a new one for None.
Array mask_array(const Call& call, const py::handle& out_arg, const Dims& shape) {
  if (out_arg.is_none()) return call.empty(shape, kBoolean);
  if (!is_numpy(out_arg) && !supports_dlpack(out_arg))
    throw py::type_error("out must be an array of bool or None; got " + type_text(out_arg));
  const Array out = call.view(out_arg, "out", "bool or None");
  if (out.type != kBoolean) throw py::type_error("out must be an array of bool or None; got " + type_name(out.type));
  if (out.shape != shape)
    throw py::value_error("out must be " + shape_text(shape) + " to match shape; got " + shape_text(out.shape));
  require_output(out, "out", "shape", shape, kBoolean);
  return out;
}

py::object dropout_mask(const Arguments<5>& arguments) {
  const auto& [shape_arg, p_arg, rng, granularity, out_arg] = arguments;
  const Library library(out_arg, "out");
  const Call call(library);
  const Dims shape = shape_from(shape_arg);
  const double p = probability(p_arg, "p");
  const bool unit = is_unit(granularity);
  const Array keep = mask_array(call, out_arg, shape);
  Flat flat;
  flatten(keep, flat);
  DropoutMaskArgs args{};
  args.M = flat.M;
  args.N = flat.N;
  const MaskKey key(rng, call);
  args.mask = key.mask(p, "p", unit, args.M, args.N);
  args.keep = static_cast<bool*>(keep.data);
  call.require_verified([] { return std::string("dropout_mask"); });
  call.run(kernels::dropout_mask, args, {&keep, &key.device_key()});
  return out_arg.is_none() ? call.wrap(keep) : py::reinterpret_borrow<py::object>(out_arg);
}

}  // namespace

void register_dropout(py::module_& m) {
  def<&dropout>(m, "dropout", {"x", "p", "rng", "granularity", "scaling"});
  def<&dropout_backward>(m, "dropout_backward", {"dy", "p", "rng", "granularity", "scaling"});
  def<&dropout_mask>(m, "dropout_mask", {"shape", "p", "rng", "granularity", "out"});
}

}  // namespace fusedrop::bind
