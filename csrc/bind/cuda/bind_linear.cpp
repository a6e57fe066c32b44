// bind_linear: linear_forward, linear_backward and Saved, what the first leaves for the second; TF32.
#include <atomic>
#include <string>

#include "bind/activation_name.hpp"
#include "bind/cuda/library.hpp"
#include "bind/cuda/mask_name.hpp"
#include "bind/cuda/paths.hpp"
#include "bind/cuda/register.hpp"
#include "bind/rng.hpp"
#include "bind/text.hpp"
#include "cuda/kernels.hpp"

namespace fusedrop::bind::cuda {
namespace {

using fusedrop::cuda::Call;
using fusedrop::cuda::DeviceGuard;
using fusedrop::cuda::Stream;

std::atomic<bool> tf32_products{false};

struct Saved {
  Library library;  // x's
  Operand x, w, kept, known, drawn;  // kept: y or z as `saved` says; known: kept_inputs
  bool has_bias;
  fusedrop::Saved saved;
  Activation activation;
  bool before;
  Mask mask, input_mask;
  bool drops_to_zero;  // what unit dropout leaves out of y is 0, and not act(0) or a residual
  bool tf32;

  i64 M() const { return x.shape[0]; }
  i64 K() const { return x.shape[1]; }
  i64 N() const { return w.shape[0]; }
  Call call(Stream stream) const { return {stream, nullptr, static_cast<const bool*>(known.data), tf32}; }
};

const char* saved_name(const Saved& s) {
  return s.saved == fusedrop::Saved::output ? "y" : s.saved == fusedrop::Saved::preactivation ? "z" : "nothing";
}

Operand input_of(const Library& library, const py::handle& value, Stream stream) {
  Operand x = library.view(value, "x", stream);
  require_floating(x, "x");
  require_rank(x, "x", 2, "[M, K]");
  return x;
}

Operand weight_of(const Library& library, const py::handle& value, const Operand& x, Stream stream) {
  Operand w = library.view(value, "w", stream);
  require_like(w, "w", x, "x");
  if (w.rank() != 2 || w.shape[1] != x.shape[1])
    throw py::value_error("w must be [N, K] = " + shape_text(Shape{-1, x.shape[1]}) + " to match x " + shape_text(x) +
                          "; got " + shape_text(w));
  return w;
}

Operand bias_of(const Library& library, const py::handle& value, const Operand& w, Stream stream) {
  Operand b = library.view(value, "b", stream);
  require_like(b, "b", w, "x");
  if (b.rank() != 1 || b.shape[0] != w.shape[0])
    throw py::value_error("b must be [N] = " + shape_text(Shape{w.shape[0]}) + " to match w " + shape_text(w) +
                          "; got " + shape_text(b));
  return b;
}

Operand known_of(const Library& library, const py::handle& value, i64 K, Stream stream) {
  Operand known = library.view(value, "kept_inputs", stream);
  if (!same_type(known.type, kBoolean) && !same_type(known.type, kByte))
    throw py::type_error("kept_inputs must be bool or None; got " + type_name(known.type));
  if (known.shape != Shape{K})
    throw py::value_error("kept_inputs must be [K] = " + shape_text(Shape{K}) + " to match x; got " +
                          shape_text(known));
  if (!known.contiguous()) throw py::value_error("kept_inputs must be C-contiguous; got other strides");
  return known;
}

struct Options {  // of a layer, as the caller gives them
  const py::handle &activation, &p, &rng, &before, &input_p, &granularity;
};

// What backward needs, but for the kept array and the known columns.
Saved saved_of(const Library& library, const Operand& x, const Operand& w, bool has_bias, bool has_residual,
               const Options& options, Stream stream) {
  Saved s{};
  s.library = library;
  s.x = x;
  s.w = w;
  s.has_bias = has_bias;
  s.activation = activation_from(options.activation);
  s.saved = saved_for(keeps_of(s.activation), has_residual);
  s.before = flag(options.before, "dropout_before_activation");
  const bool unit = is_unit(options.granularity);
  const double p = probability(options.p, "p"), input_p = probability(options.input_p, "input_p");
  const MaskName name(options.rng, library, stream);
  s.mask = name.mask(p, "p", unit, s.M(), s.N());
  s.input_mask = name.input_mask(input_p, "input_p", unit, s.M(), s.K());
  s.drawn = name.drawn();
  s.drops_to_zero = !(s.before && s.activation == Activation::sigmoid) && !has_residual;
  s.tf32 = tf32_products;
  require_proved(linear_path(dtype_of(x), s.tf32));
  return s;
}

LinearForwardArgs forward_args(const Saved& s, const Operand& b, const Operand& residual) {
  LinearForwardArgs args{};
  args.dtype = dtype_of(s.x);
  args.M = s.M(), args.N = s.N(), args.K = s.K();
  args.x = matrix(s.x);
  args.w = matrix(s.w);
  if (s.has_bias) args.b = b.data, args.b_stride = b.strides[0];
  if (residual.array) args.residual = matrix(residual);
  args.activation = s.activation;
  args.before = s.before;
  args.mask = s.mask;
  args.input_mask = s.input_mask;
  return args;
}

py::object linear_forward(const py::handle& x_given, const py::handle& w_given, const py::handle& b_given,
                          const py::handle& activation, const py::handle& p, const py::handle& rng,
                          const py::handle& before, const py::handle& input_p, const py::handle& residual_given,
                          const py::handle& granularity, const py::handle& kept_inputs, const py::handle& out,
                          bool save) {
  const Library library(x_given, "x");
  const Stream stream = library.stream();
  const Operand x = input_of(library, x_given, stream), w = weight_of(library, w_given, x, stream);
  const Shape y_shape{x.shape[0], w.shape[0]};
  Operand b, residual;
  if (!b_given.is_none()) b = bias_of(library, b_given, w, stream);
  if (!residual_given.is_none()) {
    residual = library.view(residual_given, "residual", stream);
    require_like(residual, "residual", x, "x");
    if (residual.shape != y_shape)
      throw py::value_error("residual must be [M, N] = " + shape_text(y_shape) + " to match y; got " +
                            shape_text(residual));
  }
  const bool has_residual = !residual_given.is_none();
  Saved saved = saved_of(library, x, w, !b_given.is_none(), has_residual,
                         {activation, p, rng, before, input_p, granularity}, stream);
  if (!kept_inputs.is_none()) {
    if (saved.input_mask.threshold != 0 && !saved.input_mask.unit)
      throw py::value_error("kept_inputs must be None beside an input_p that drops single elements; got an array");
    saved.known = known_of(library, kept_inputs, saved.K(), stream);
  }
  Operand y;
  if (!out.is_none()) {
    y = library.view(out, "out", stream);
    require_output(y, "out", "[M, N]", y_shape, x.type);
    refuse_overlap("out", y, {{"x", &x}, {"w", &w}, {"b", &b}, {"residual", &residual}, {"kept_inputs", &saved.known}});
  }

  const DeviceGuard guard(library.device());
  if (out.is_none()) y = library.empty(y_shape, x.type, stream);
  LinearForwardArgs args = forward_args(saved, b, residual);
  if (saved.saved == fusedrop::Saved::output) saved.kept = y;
  if (save && saved.saved == fusedrop::Saved::preactivation) {
    saved.kept = library.empty(y_shape, x.type, stream);
    args.z = saved.kept.data;
  }
  args.y = y.data;
  Call call = saved.call(stream);
  const Operand workspace = library.workspace(fusedrop::cuda::linear_forward_workspace(args, call), stream);
  call.workspace = workspace.data;
  {
    py::gil_scoped_release release;
    fusedrop::cuda::linear_forward(args, call);
  }
  library.launched(stream, {&x, &w, &b, &residual, &saved.known, &saved.drawn, &y});
  py::object result = library.finish(y);
  if (!save) return result;
  return py::make_tuple(std::move(result), std::move(saved));
}

// What linear_forward would have left, of parts that the caller kept: an operator of another library's autograd.
Saved restore_saved(const py::handle& x_given, const py::handle& w_given, const py::handle& kept, bool has_bias,
                    const py::handle& activation, const py::handle& p, const py::handle& rng, const py::handle& before,
                    const py::handle& input_p, bool has_residual, const py::handle& granularity) {
  const Library library(x_given, "x");
  const Stream stream = library.stream();
  const Operand x = input_of(library, x_given, stream), w = weight_of(library, w_given, x, stream);
  Saved saved =
      saved_of(library, x, w, has_bias, has_residual, {activation, p, rng, before, input_p, granularity}, stream);
  if (saved.saved != fusedrop::Saved::nothing) {
    saved.kept = library.view(kept, saved_name(saved), stream);
    require_output(saved.kept, saved_name(saved), "[M, N]", {saved.M(), saved.N()}, x.type);
  }
  return saved;
}

// A gradient: True makes an array, False leaves it out, an array receives it.
Operand destination(const Saved& s, const py::handle& wanted, const char* name, const char* letters, const Shape& shape,
                    const Operand& dy, Stream stream) {
  if (wanted.ptr() == Py_False || wanted.ptr() == Py_True) return {};
  if (wanted.is_none() || !py::hasattr(wanted, "__dlpack__"))
    throw py::type_error(std::string(name) + " must be True, False or an array for the result; got " +
                         repr_text(wanted));
  Operand out = s.library.view(wanted, name, stream);
  require_output(out, name, letters, shape, s.x.type);
  refuse_overlap(name, out, {{"dy", &dy}, {"x", &s.x}, {"w", &s.w}, {saved_name(s), &s.kept}});
  return out;
}

py::object gradient(const Saved& s, const py::handle& wanted, const Operand& result) {
  if (!result.array) return py::none();
  return wanted.ptr() == Py_True ? s.library.finish(result) : result.array;
}

py::tuple linear_backward(const py::handle& dy_given, const py::handle& saved_in, const py::handle& want_dx,
                          const py::handle& want_dw, const py::handle& want_db) {
  if (!py::isinstance<Saved>(saved_in))
    throw py::type_error("saved must be what linear_forward returned; got " + type_text(saved_in));
  const Saved& s = saved_in.cast<const Saved&>();
  const Stream stream = s.library.stream();
  const Operand dy = s.library.view(dy_given, "dy", stream);
  const Shape y_shape{s.M(), s.N()};
  require_like(dy, "dy", s.x, "x");
  if (dy.shape != y_shape)
    throw py::value_error("dy must be [M, N] = " + shape_text(y_shape) + " to match y; got " + shape_text(dy));
  if (!s.has_bias && want_db.ptr() != Py_True && want_db.ptr() != Py_False)
    throw py::type_error("db must be True or False for a layer without bias; got " + repr_text(want_db));
  struct Gradient {
    const py::handle& wanted;
    const char *name, *letters;
    Shape shape;
    bool exists;
    Operand to;
  } gradients[] = {{want_dx, "dx", "[M, K]", {s.M(), s.K()}, true, {}},
                   {want_dw, "dw", "[N, K]", {s.N(), s.K()}, true, {}},
                   {want_db, "db", "[N]", {s.N()}, s.has_bias, {}}};
  for (Gradient& g : gradients)
    if (g.exists) g.to = destination(s, g.wanted, g.name, g.letters, g.shape, dy, stream);
  for (const Gradient& later : gradients)
    for (const Gradient* earlier = gradients; earlier != &later; ++earlier)
      refuse_overlap(later.name, later.to, {{earlier->name, &earlier->to}});

  const DeviceGuard guard(s.library.device());
  for (Gradient& g : gradients)
    if (g.exists && g.wanted.ptr() == Py_True) g.to = s.library.empty(g.shape, s.x.type, stream);
  LinearBackwardArgs args{};
  args.dtype = dtype_of(s.x);
  args.M = s.M(), args.N = s.N(), args.K = s.K();
  args.dy = matrix(dy);
  args.x = matrix(s.x);
  args.w = matrix(s.w);
  args.kept = s.kept.data;
  args.saved = s.saved;
  args.dx = gradients[0].to.data;
  args.dw = gradients[1].to.data;
  args.db = gradients[2].to.data;
  args.activation = s.activation;
  args.before = s.before;
  args.mask = s.mask;
  args.input_mask = s.input_mask;
  Call call = s.call(stream);
  const Operand workspace = s.library.workspace(fusedrop::cuda::linear_backward_workspace(args, call), stream);
  call.workspace = workspace.data;
  {
    py::gil_scoped_release release;
    fusedrop::cuda::linear_backward(args, call);
  }
  s.library.launched(
      stream, {&dy, &s.x, &s.w, &s.known, &s.drawn, &s.kept, &gradients[0].to, &gradients[1].to, &gradients[2].to});
  return py::make_tuple(gradient(s, want_dx, gradients[0].to), gradient(s, want_dw, gradients[1].to),
                        gradient(s, want_db, gradients[2].to));
}

// Drawn when somebody asks: the columns of y that the unit mask keeps.
py::object kept_outputs(const Saved& s) {
  if (!s.drops_to_zero || !s.mask.unit || s.mask.threshold == 0) return py::none();
  const Stream stream = s.library.stream();
  const DeviceGuard guard(s.library.device());
  const Operand keep = s.library.empty({s.N()}, kBoolean, stream);
  fusedrop::cuda::dropout_mask({1, s.N(), static_cast<bool*>(keep.data), s.mask}, stream);
  s.library.launched(stream, {&s.drawn});
  return s.library.finish(keep);
}

}  // namespace

void register_linear(py::module_& m) {
  py::class_<Saved>(m, "Saved",
                    "What linear_forward keeps for linear_backward: x, w, and y or z; no mask. Opaque but for these.",
                    py::is_final(), py::module_local())
      .def_property_readonly("x", [](const Saved& s) { return s.x.array; })
      .def_property_readonly("w", [](const Saved& s) { return s.w.array; })
      .def_property_readonly("kind", &saved_name, "'y', 'z' or 'nothing': which [M, N] array is kept.")
      .def_property_readonly("kept",
                             [](const Saved& s) {
                               return s.saved == fusedrop::Saved::nothing ? py::object(py::none())
                                                                          : s.library.finish(s.kept);
                             })
      .def_property_readonly(
          "kept_outputs", &kept_outputs,
          "bool [N], False for the columns of y that unit dropout has made 0; None where it has made none.");
  m.def("linear_forward", &linear_forward, py::arg("x"), py::arg("w"), py::arg("b"), py::arg("activation"),
        py::arg("p"), py::arg("rng"), py::arg("dropout_before_activation"), py::arg("input_p"), py::arg("residual"),
        py::arg("granularity"), py::arg("kept_inputs"), py::arg("out"), py::arg("save"));
  m.def("restore_saved", &restore_saved, py::arg("x"), py::arg("w"), py::arg("kept"), py::arg("has_bias"),
        py::arg("activation"), py::arg("p"), py::arg("rng"), py::arg("dropout_before_activation"), py::arg("input_p"),
        py::arg("has_residual"), py::arg("granularity"));
  m.def("linear_backward", &linear_backward, py::arg("dy"), py::arg("saved"), py::arg("dx"), py::arg("dw"),
        py::arg("db"));
  m.def("use_tf32", [](const py::handle& on) { tf32_products = flag(on, "on"); }, py::arg("on"));
  m.def("tf32", [] { return tf32_products.load(); });
}

}  // namespace fusedrop::bind::cuda
