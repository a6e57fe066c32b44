// bind_dropout: dropout and dropout_mask for arrays of any rank, seen as [M,N] with N the last axis.
#include <string>

#include "bind/arrays.hpp"
#include "bind/cuda_module.hpp"
#include "bind/dlpack.hpp"
#include "bind/dropout_call.hpp"
#include "bind/register.hpp"
#include "bind/rng.hpp"
#include "bind/text.hpp"
#include "cpu/dispatch.hpp"

namespace fusedrop::bind {
namespace {

Shape dims_of(const py::array& a) { return Shape(a.shape(), a.shape() + a.ndim()); }

bool flatten(const py::array& x, Flat& flat) {
  std::vector<i64> strides;
  for (int d = 0; d < x.ndim(); ++d) strides.push_back(stride(x, d));
  return flatten(dims_of(x), strides, flat);
}

// The caller's array for a mask, or a new one.
py::array mask_array(const py::handle& given, const Shape& shape) {
  if (given.is_none()) return py::array(py::dtype::of<bool>(), shape);
  const py::object viewed_out = viewed(given, "out", true);
  if (!py::isinstance<py::array_t<bool>>(viewed_out))
    throw py::type_error("out must be an array of bool or None; got " +
                         (py::isinstance<py::array>(viewed_out)
                              ? dtype_text(py::reinterpret_borrow<py::array>(viewed_out))
                              : type_text(viewed_out)));
  py::array out = py::reinterpret_borrow<py::array>(viewed_out);
  if (dims_of(out) != shape)
    throw py::value_error("out must be " + shape_text(shape) + " to match shape; got " + shape_text(out));
  if ((out.flags() & py::array::c_style) == 0) throw py::value_error("out must be C-contiguous; got other strides");
  if (!out.writeable()) throw py::value_error("out must be writeable; got a read-only array");
  return out;
}

py::object dropout(const py::handle& x_given, const py::handle& p_in, const py::handle& rng,
                   const py::handle& granularity, const py::handle& scaling) {
  if (on_cuda(x_given)) return cuda_function("dropout", x_given, "x")(x_given, p_in, rng, granularity, scaling);
  py::array x = floating_array(viewed(x_given, "x"), "x");
  const double p = probability(p_in, "p");
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
  py::array y(x.dtype(), dims_of(x));
  args.y = y.mutable_data();
  {
    py::gil_scoped_release release;
    cpu::backend().dropout(args);
  }
  return Library(x_given).wrap(y);
}

py::object dropout_mask(const py::handle& shape_in, const py::handle& p_in, const py::handle& rng,
                        const py::handle& granularity, const py::handle& out) {
  if (on_cuda(out)) return cuda_function("dropout_mask", out, "out")(shape_in, p_in, rng, granularity, out);
  const Shape shape = shape_of(shape_in);
  const double p = probability(p_in, "p");
  const bool unit = is_unit(granularity);
  py::array keep = mask_array(out, shape);
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
  return out.is_none() ? py::object(std::move(keep)) : py::reinterpret_borrow<py::object>(out);
}

}  // namespace

void register_dropout(py::module_& m) {
  m.def("dropout", &dropout, py::arg("x"), py::arg("p"), py::arg("rng"), py::arg("granularity"), py::arg("scaling"));
  m.def("dropout_mask", &dropout_mask, py::arg("shape"), py::arg("p"), py::arg("rng"), py::arg("granularity"),
        py::arg("out") = py::none());
}

}  // namespace fusedrop::bind
