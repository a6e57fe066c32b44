// linear: linear_forward, linear_backward, the context that the first saves for the second, and the switch for TF32.
#include <atomic>
#include <string>

#include "bind/array/text.hpp"
#include "bind/cuda/array/device_library.hpp"
#include "bind/cuda/mask_key.hpp"
#include "bind/cuda/paths.hpp"
#include "bind/cuda/register.hpp"
#include "bind/options/activation.hpp"
#include "bind/options/philox.hpp"
#include "cuda/runtime/kernels.hpp"

namespace fusedrop::bind::cuda {
namespace {

using fusedrop::cuda::Call;
using fusedrop::cuda::DeviceGuard;
using fusedrop::cuda::Stream;

std::atomic<bool> tf32_products{false};

struct DeviceLinearContext {
  DeviceLibrary library;  // of x
  DeviceArray x, w;
  DeviceArray saved_activation;  // y or z as `saved_kind` says, or none
  DeviceArray active_inputs;     // none: all
  DeviceArray device_key;        // the mask key in device memory, or none
  bool has_bias;
  SavedKind saved_kind;
  Activation activation;
  bool dropout_first;
  Mask mask, input_mask;
  bool drops_to_zero;  // columns of y that unit dropout drops are 0, and not act(0) or a residual
  bool tf32;

  i64 M() const { return x.shape[0]; }
  i64 K() const { return x.shape[1]; }
  i64 N() const { return w.shape[0]; }
  Call call(Stream stream) const { return {stream, nullptr, static_cast<const bool*>(active_inputs.data), tf32}; }
};

const char* kind_name(const DeviceLinearContext& s) {
  return s.saved_kind == SavedKind::output ? "y" : s.saved_kind == SavedKind::preactivation ? "z" : "nothing";
}

DeviceArray input_of(const DeviceLibrary& library, const py::handle& value, Stream stream) {
  DeviceArray x = library.view(value, "x", stream);
  require_floating(x, "x");
  require_rank(x, "x", 2, "[M, K]");
  return x;
}

DeviceArray weight_of(const DeviceLibrary& library, const py::handle& value, const DeviceArray& x, Stream stream) {
  DeviceArray w = library.view(value, "w", stream);
  require_like(w, "w", x, "x");
  if (w.rank() != 2 || w.shape[1] != x.shape[1])
    throw py::value_error("w must be [N, K] = " + shape_text(Shape{-1, x.shape[1]}) + " to match x " + shape_text(x) +
                          "; got " + shape_text(w));
  return w;
}

DeviceArray bias_of(const DeviceLibrary& library, const py::handle& value, const DeviceArray& w, Stream stream) {
  DeviceArray b = library.view(value, "b", stream);
  require_like(b, "b", w, "x");
  if (b.rank() != 1 || b.shape[0] != w.shape[0])
    throw py::value_error("b must be [N] = " + shape_text(Shape{w.shape[0]}) + " to match w " + shape_text(w) +
                          "; got " + shape_text(b));
  return b;
}

DeviceArray active_inputs_of(const DeviceLibrary& library, const py::handle& value, i64 K, Stream stream) {
  DeviceArray active = library.view(value, "active_inputs", stream);
  if (!same_type(active.type, kBoolean) && !same_type(active.type, kByte))
    throw py::type_error("active_inputs must be bool or None; got " + type_name(active.type));
  if (active.shape != Shape{K})
    throw py::value_error("active_inputs must be [K] = " + shape_text(Shape{K}) + " to match x; got " +
                          shape_text(active));
  if (!active.contiguous()) throw py::value_error("active_inputs must be C-contiguous; got other strides");
  return active;
}

struct LinearOptions {  // as the caller passes them
  const py::handle &activation, &p, &rng, &dropout_first, &input_p, &granularity;
};

// The context, without saved_activation and active_inputs.
DeviceLinearContext make_context(const DeviceLibrary& library, const DeviceArray& x, const DeviceArray& w,
                                 bool has_bias, bool has_residual, const LinearOptions& options, Stream stream) {
  DeviceLinearContext s{};
  s.library = library;
  s.x = x;
  s.w = w;
  s.has_bias = has_bias;
  s.activation = activation_from(options.activation);
  s.saved_kind = saved_kind_for(saved_kind_of(s.activation), has_residual);
  s.dropout_first = flag(options.dropout_first, "dropout_first");
  const bool unit = is_unit(options.granularity);
  const double p = probability(options.p, "p"), input_p = probability(options.input_p, "input_p");
  const MaskKey key(options.rng, library, stream);
  s.mask = key.mask(p, "p", unit, s.M(), s.N());
  s.input_mask = key.input_mask(input_p, "input_p", unit, s.M(), s.K());
  s.device_key = key.device_key();
  s.drops_to_zero = !(s.dropout_first && s.activation == Activation::sigmoid) && !has_residual;
  s.tf32 = tf32_products;
  require_proved(linear_path(dtype_of(x), s.tf32));
  return s;
}

LinearForwardArgs forward_args(const DeviceLinearContext& s, const DeviceArray& b, const DeviceArray& residual) {
  LinearForwardArgs args{};
  args.dtype = dtype_of(s.x);
  args.M = s.M(), args.N = s.N(), args.K = s.K();
  args.x = matrix(s.x);
  args.w = matrix(s.w);
  if (s.has_bias) args.b = b.data, args.b_stride = b.strides[0];
  if (residual.array) args.residual = matrix(residual);
  args.activation = s.activation;
  args.dropout_first = s.dropout_first;
  args.mask = s.mask;
  args.input_mask = s.input_mask;
  return args;
}

py::object linear_forward(const py::handle& x_given, const py::handle& w_given, const py::handle& b_given,
                          const py::handle& activation, const py::handle& p, const py::handle& rng,
                          const py::handle& dropout_first, const py::handle& input_p, const py::handle& residual_given,
                          const py::handle& granularity, const py::handle& active_inputs, const py::handle& out,
                          bool save) {
  const DeviceLibrary library(x_given, "x");
  const Stream stream = library.stream();
  const DeviceArray x = input_of(library, x_given, stream), w = weight_of(library, w_given, x, stream);
  const Shape y_shape{x.shape[0], w.shape[0]};
  DeviceArray b, residual;
  if (!b_given.is_none()) b = bias_of(library, b_given, w, stream);
  if (!residual_given.is_none()) {
    residual = library.view(residual_given, "residual", stream);
    require_like(residual, "residual", x, "x");
    if (residual.shape != y_shape)
      throw py::value_error("residual must be [M, N] = " + shape_text(y_shape) + " to match y; got " +
                            shape_text(residual));
  }
  const bool has_residual = !residual_given.is_none();
  DeviceLinearContext saved = make_context(library, x, w, !b_given.is_none(), has_residual,
                                           {activation, p, rng, dropout_first, input_p, granularity}, stream);
  if (!active_inputs.is_none()) {
    if (saved.input_mask.threshold != 0 && !saved.input_mask.unit)
      throw py::value_error("active_inputs must be None beside an input_p that drops single elements; got an array");
    saved.active_inputs = active_inputs_of(library, active_inputs, saved.K(), stream);
  }
  DeviceArray y;
  if (!out.is_none()) {
    y = library.view(out, "out", stream);
    require_output(y, "out", "[M, N]", y_shape, x.type);
    refuse_overlap("out", y,
                   {{"x", &x}, {"w", &w}, {"b", &b}, {"residual", &residual}, {"active_inputs", &saved.active_inputs}});
  }

  const DeviceGuard guard(library.device());
  if (out.is_none()) y = library.empty(y_shape, x.type, stream);
  LinearForwardArgs args = forward_args(saved, b, residual);
  if (saved.saved_kind == SavedKind::output) saved.saved_activation = y;
  if (save && saved.saved_kind == SavedKind::preactivation) {
    saved.saved_activation = library.empty(y_shape, x.type, stream);
    args.z = saved.saved_activation.data;
  }
  args.y = y.data;
  Call call = saved.call(stream);
  const DeviceArray workspace = library.workspace(fusedrop::cuda::linear_forward_workspace(args, call), stream);
  call.workspace = workspace.data;
  {
    py::gil_scoped_release release;
    fusedrop::cuda::linear_forward(args, call);
  }
  library.defer_release(stream, {&x, &w, &b, &residual, &saved.active_inputs, &saved.device_key, &y});
  py::object result = library.wrap(y);
  if (!save) return result;
  return py::make_tuple(std::move(result), std::move(saved));
}

// The context that linear_forward would have returned, from parts that the caller has stored: for operators of another
// library's autograd.
DeviceLinearContext restore_context(const py::handle& x_given, const py::handle& w_given,
                                    const py::handle& saved_activation, bool has_bias, const py::handle& activation,
                                    const py::handle& p, const py::handle& rng, const py::handle& dropout_first,
                                    const py::handle& input_p, bool has_residual, const py::handle& granularity) {
  const DeviceLibrary library(x_given, "x");
  const Stream stream = library.stream();
  const DeviceArray x = input_of(library, x_given, stream), w = weight_of(library, w_given, x, stream);
  DeviceLinearContext saved = make_context(library, x, w, has_bias, has_residual,
                                           {activation, p, rng, dropout_first, input_p, granularity}, stream);
  if (saved.saved_kind != SavedKind::nothing) {
    saved.saved_activation = library.view(saved_activation, kind_name(saved), stream);
    require_output(saved.saved_activation, kind_name(saved), "[M, N]", {saved.M(), saved.N()}, x.type);
  }
  return saved;
}

// The array for a gradient. True makes a new one (later), False leaves the gradient out, an array receives it.
DeviceArray destination(const DeviceLinearContext& s, const py::handle& requested, const char* name, const char* dims,
                        const Shape& shape, const DeviceArray& dy, Stream stream) {
  if (requested.ptr() == Py_False || requested.ptr() == Py_True) return {};
  if (requested.is_none() || !py::hasattr(requested, "__dlpack__"))
    throw py::type_error(std::string(name) + " must be True, False or an array for the result; got " +
                         repr_text(requested));
  DeviceArray out = s.library.view(requested, name, stream);
  require_output(out, name, dims, shape, s.x.type);
  refuse_overlap(name, out, {{"dy", &dy}, {"x", &s.x}, {"w", &s.w}, {kind_name(s), &s.saved_activation}});
  return out;
}

py::object gradient(const DeviceLinearContext& s, const py::handle& requested, const DeviceArray& result) {
  if (!result.array) return py::none();
  return requested.ptr() == Py_True ? s.library.wrap(result) : result.array;
}

py::tuple linear_backward(const py::handle& dy_given, const py::handle& saved_in, const py::handle& want_dx,
                          const py::handle& want_dw, const py::handle& want_db) {
  if (!py::isinstance<DeviceLinearContext>(saved_in))
    throw py::type_error("saved must be what linear_forward returned; got " + type_text(saved_in));
  const DeviceLinearContext& s = saved_in.cast<const DeviceLinearContext&>();
  const Stream stream = s.library.stream();
  const DeviceArray dy = s.library.view(dy_given, "dy", stream);
  const Shape y_shape{s.M(), s.N()};
  require_like(dy, "dy", s.x, "x");
  if (dy.shape != y_shape)
    throw py::value_error("dy must be [M, N] = " + shape_text(y_shape) + " to match y; got " + shape_text(dy));
  if (!s.has_bias && want_db.ptr() != Py_True && want_db.ptr() != Py_False)
    throw py::type_error("db must be True or False for a layer without bias; got " + repr_text(want_db));
  struct Gradient {
    const py::handle& requested;
    const char *name, *dims;
    Shape shape;
    bool exists;
    DeviceArray to;
  } gradients[] = {{want_dx, "dx", "[M, K]", {s.M(), s.K()}, true, {}},
                   {want_dw, "dw", "[N, K]", {s.N(), s.K()}, true, {}},
                   {want_db, "db", "[N]", {s.N()}, s.has_bias, {}}};
  for (Gradient& g : gradients)
    if (g.exists) g.to = destination(s, g.requested, g.name, g.dims, g.shape, dy, stream);
  for (const Gradient& later : gradients)
    for (const Gradient* earlier = gradients; earlier != &later; ++earlier)
      refuse_overlap(later.name, later.to, {{earlier->name, &earlier->to}});

  const DeviceGuard guard(s.library.device());
  for (Gradient& g : gradients)
    if (g.exists && g.requested.ptr() == Py_True) g.to = s.library.empty(g.shape, s.x.type, stream);
  LinearBackwardArgs args{};
  args.dtype = dtype_of(s.x);
  args.M = s.M(), args.N = s.N(), args.K = s.K();
  args.dy = matrix(dy);
  args.x = matrix(s.x);
  args.w = matrix(s.w);
  args.saved_activation = s.saved_activation.data;
  args.saved_kind = s.saved_kind;
  args.dx = gradients[0].to.data;
  args.dw = gradients[1].to.data;
  args.db = gradients[2].to.data;
  args.activation = s.activation;
  args.dropout_first = s.dropout_first;
  args.mask = s.mask;
  args.input_mask = s.input_mask;
  Call call = s.call(stream);
  const DeviceArray workspace = s.library.workspace(fusedrop::cuda::linear_backward_workspace(args, call), stream);
  call.workspace = workspace.data;
  {
    py::gil_scoped_release release;
    fusedrop::cuda::linear_backward(args, call);
  }
  s.library.defer_release(stream, {&dy, &s.x, &s.w, &s.active_inputs, &s.device_key, &s.saved_activation,
                                   &gradients[0].to, &gradients[1].to, &gradients[2].to});
  return py::make_tuple(gradient(s, want_dx, gradients[0].to), gradient(s, want_dw, gradients[1].to),
                        gradient(s, want_db, gradients[2].to));
}

// The columns of y that the unit mask keeps; the mask is drawn at each call.
py::object active_outputs(const DeviceLinearContext& s) {
  if (!s.drops_to_zero || !s.mask.unit || s.mask.threshold == 0) return py::none();
  const Stream stream = s.library.stream();
  const DeviceGuard guard(s.library.device());
  const DeviceArray keep = s.library.empty({s.N()}, kBoolean, stream);
  fusedrop::cuda::dropout_mask({1, s.N(), static_cast<bool*>(keep.data), s.mask}, stream);
  s.library.defer_release(stream, {&s.device_key});
  return s.library.wrap(keep);
}

}  // namespace

void register_linear(py::module_& m) {
  py::class_<DeviceLinearContext>(
      m, "LinearContext",
      "What linear_forward saves for linear_backward: x, w, and y or z; no mask. It has no other attributes.",
      py::is_final(), py::module_local())
      .def_property_readonly("x", [](const DeviceLinearContext& s) { return s.x.array; })
      .def_property_readonly("w", [](const DeviceLinearContext& s) { return s.w.array; })
      .def_property_readonly("kind", &kind_name, "'y', 'z' or 'nothing': which [M, N] array is saved.")
      .def_property_readonly("saved_activation",
                             [](const DeviceLinearContext& s) {
                               return s.saved_kind == SavedKind::nothing ? py::object(py::none())
                                                                         : s.library.wrap(s.saved_activation);
                             })
      .def_property_readonly("active_outputs", &active_outputs,
                             "bool [N], False for the columns of y that unit dropout made 0; None if it made none.");
  m.def("linear_forward", &linear_forward, py::arg("x"), py::arg("w"), py::arg("b"), py::arg("activation"),
        py::arg("p"), py::arg("rng"), py::arg("dropout_first"), py::arg("input_p"), py::arg("residual"),
        py::arg("granularity"), py::arg("active_inputs"), py::arg("out"), py::arg("save"));
  m.def("restore_context", &restore_context, py::arg("x"), py::arg("w"), py::arg("saved_activation"),
        py::arg("has_bias"), py::arg("activation"), py::arg("p"), py::arg("rng"), py::arg("dropout_first"),
        py::arg("input_p"), py::arg("has_residual"), py::arg("granularity"));
  m.def("linear_backward", &linear_backward, py::arg("dy"), py::arg("saved"), py::arg("dx"), py::arg("dw"),
        py::arg("db"));
  m.def("set_tf32", [](const py::handle& on) { tf32_products = flag(on, "on"); }, py::arg("on"));
  m.def("get_tf32", [] { return tf32_products.load(); });
}

}  // namespace fusedrop::bind::cuda
