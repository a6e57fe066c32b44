// dropout: dropout and dropout_mask for arrays of any rank. Kernels get them as a matrix [M,N], N the last axis.
#include "bind/options/dropout.hpp"

#include <string>

#include "bind/array/array.hpp"
#include "bind/array/dlpack.hpp"
#include "bind/array/text.hpp"
#include "bind/options/cuda_module.hpp"
#include "bind/options/philox.hpp"
#include "bind/register.hpp"
#include "cpu/runtime/dispatch.hpp"

namespace fusedrop::bind {
namespace {

bool flatten(const py::array& x, Flat& flat) {
  std::vector<i64> strides;
  for (int d = 0; d < x.ndim(); ++d) strides.push_back(stride(x, d));
  return flatten(shape_of(x), strides, flat);
}

// The caller's array for a mask, or a new one for None.
py::array mask_array(const py::handle& out_arg, const Shape& shape) {
  if (out_arg.is_none()) return py::array(py::dtype::of<bool>(), shape);
  const py::object out_view = as_array(out_arg, "out", true);
  if (!py::isinstance<py::array_t<bool>>(out_view))
    throw py::type_error("out must be an array of bool or None; got " +
                         (py::isinstance<py::array>(out_view) ? dtype_text(py::reinterpret_borrow<py::array>(out_view))
                                                              : type_text(out_view)));
  py::array out = py::reinterpret_borrow<py::array>(out_view);
  if (shape_of(out) != shape)
    throw py::value_error("out must be " + shape_text(shape) + " to match shape; got " + shape_text(out));
  if ((out.flags() & py::array::c_style) == 0) throw py::value_error("out must be C-contiguous; got other strides");
  if (!out.writeable()) throw py::value_error("out must be writeable; got a read-only array");
  return out;
}

py::object dropout(const py::handle& x_arg, const py::handle& p_arg, const py::handle& rng,
                   const py::handle& granularity, const py::handle& scaling) {
  if (on_cuda(x_arg)) return cuda_function("dropout", x_arg, "x")(x_arg, p_arg, rng, granularity, scaling);
  py::array x = floating_array(as_array(x_arg, "x"), "x");
  const double p = probability(p_arg, "p");
  DropoutArgs args{};
  Flat flat;
  if (!flatten(x, flat)) {
    x = contiguous(x);
    flatten(x, flat);
  }
  args.dtype = dtype_of(x);
  args.M = flat.M;
  args.N = flat.N;
  args.x = {x.data(), flat.row_stride, flat.col_stride};
  args.mask = make_mask(rng, p, "p", is_unit(granularity), args.M, args.N);
  args.scale = is_inverted(scaling) ? keep_scale(args.mask.threshold) : 1.0;
  py::array y(x.dtype(), shape_of(x));
  args.y = y.mutable_data();
  {
    py::gil_scoped_release release;
    cpu::backend().dropout(args);
  }
  return ArrayLibrary(x_arg).wrap(y);
}

py::object dropout_mask(const py::handle& shape_arg, const py::handle& p_arg, const py::handle& rng,
                        const py::handle& granularity, const py::handle& out_arg) {
  if (on_cuda(out_arg))
    return cuda_function("dropout_mask", out_arg, "out")(shape_arg, p_arg, rng, granularity, out_arg);
  const Shape shape = shape_from(shape_arg);
  const double p = probability(p_arg, "p");
  const bool unit = is_unit(granularity);
  py::array keep = mask_array(out_arg, shape);
  DropoutMaskArgs args{};
  Flat flat;
  flatten(keep, flat);
  args.M = flat.M;
  args.N = flat.N;
  args.mask = make_mask(rng, p, "p", unit, args.M, args.N);
  args.keep = static_cast<bool*>(keep.mutable_data());
  {
    py::gil_scoped_release release;
    cpu::backend().dropout_mask(args);
  }
  return out_arg.is_none() ? py::object(std::move(keep)) : py::reinterpret_borrow<py::object>(out_arg);
}

}  // namespace

void register_dropout(py::module_& m) {
  m.def("dropout", &dropout, py::arg("x"), py::arg("p"), py::arg("rng"), py::arg("granularity"), py::arg("scaling"));
  m.def("dropout_mask", &dropout_mask, py::arg("shape"), py::arg("p"), py::arg("rng"), py::arg("granularity"),
        py::arg("out") = py::none());
}

}  // namespace fusedrop::bind
