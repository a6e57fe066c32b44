// bind_dropout: dropout and dropout_mask for arrays of any rank, seen as [M,N] with N the last axis.
#include <string>
#include <vector>

#include "bind/arrays.hpp"
#include "bind/dlpack.hpp"
#include "bind/register.hpp"
#include "bind/rng.hpp"
#include "bind/text.hpp"
#include "cpu/dispatch.hpp"

namespace fusedrop::bind {
namespace {

struct Flat {  // any array as rows of its last axis
  i64 M = 1, N = 1, row_stride = 0, col_stride = 1;
};

// Leading axes that step through memory like one axis need no copy; returns false where they do not.
bool flatten(const py::array& x, Flat& flat) {
  const int rank = static_cast<int>(x.ndim());
  flat = Flat{};
  if (rank == 0) return true;
  flat.N = x.shape(rank - 1);
  flat.col_stride = stride(x, rank - 1);
  i64 expected = 0;
  for (int d = rank - 2; d >= 0; --d) {
    if (x.shape(d) != 1) {
      if (flat.M == 1)
        flat.row_stride = stride(x, d);
      else if (stride(x, d) != expected)
        return false;
      expected = stride(x, d) * x.shape(d);
    }
    flat.M *= x.shape(d);
  }
  return true;
}

bool is_inverted(const py::handle& scaling) {
  if (py::isinstance<py::str>(scaling)) {
    const std::string name = scaling.cast<std::string>();
    if (name == "inverted") return true;
    if (name == "classic") return false;
  }
  throw py::value_error("scaling must be 'inverted' or 'classic'; got " + repr_text(scaling));
}

py::object dropout(const py::handle& x_given, const py::handle& p_in, const py::handle& rng,
                   const py::handle& granularity, const py::handle& scaling) {
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
  py::array y(x.dtype(), std::vector<py::ssize_t>(x.shape(), x.shape() + x.ndim()));
  args.y = y.mutable_data();
  {
    py::gil_scoped_release release;
    cpu::backend().dropout(args);
  }
  return Library(x_given).wrap(y);
}

std::vector<py::ssize_t> shape_of(const py::handle& value) {
  const auto refuse = [&] {
    return py::type_error("shape must be an integer or a tuple of integers >= 0; got " + repr_text(value));
  };
  const auto is_whole = [](const py::handle& v) {  // an array has __index__ too
    return PyIndex_Check(v.ptr()) && !PyBool_Check(v.ptr()) && !py::isinstance<py::array>(v);
  };
  const py::object tuple =
      is_whole(value) ? py::object(py::make_tuple(value)) : py::reinterpret_borrow<py::object>(value);
  if (!py::isinstance<py::tuple>(tuple) && !py::isinstance<py::list>(tuple)) throw refuse();
  std::vector<py::ssize_t> shape;
  for (const py::handle& dim : py::reinterpret_borrow<py::sequence>(tuple)) {
    if (!is_whole(dim)) throw refuse();
    shape.push_back(PyNumber_AsSsize_t(dim.ptr(), PyExc_ValueError));
    const bool overflow = PyErr_Occurred() != nullptr;
    if (overflow) PyErr_Clear();
    if (overflow || shape.back() < 0)
      throw py::value_error("shape must be non-negative 64-bit integers; got " + repr_text(value));
  }
  return shape;
}

py::array dropout_mask(const py::handle& shape_in, const py::handle& p_in, const py::handle& rng,
                       const py::handle& granularity) {
  const std::vector<py::ssize_t> shape = shape_of(shape_in);
  const double p = probability(p_in, "p");
  const bool unit = is_unit(granularity);
  py::array keep(py::dtype::of<bool>(), shape);
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
  return keep;
}

}  // namespace

void register_dropout(py::module_& m) {
  m.def("dropout", &dropout, py::arg("x"), py::arg("p"), py::arg("rng"), py::arg("granularity"), py::arg("scaling"));
  m.def("dropout_mask", &dropout_mask, py::arg("shape"), py::arg("p"), py::arg("rng"), py::arg("granularity"));
}

}  // namespace fusedrop::bind
