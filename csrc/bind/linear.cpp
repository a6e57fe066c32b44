// linear: linear_forward, linear_backward, and LinearContext, which forward returns for backward; for all devices.
//
// A function gets a handle for each parameter that its def() at the end of this file lists; what was not passed is None
// (bind/options/arguments.hpp). It checks the arguments, fills a struct of core/params/linear.hpp and runs the kernel
// of its own name: csrc/cpu/linear/linear.cpp on a CPU, csrc/cuda/linear/forward.cu and backward.cu on a GPU.
#include <atomic>
#include <string>

#include "bind/call/destinations.hpp"
#include "bind/call/mask_key.hpp"
#include "bind/call/saved_array.hpp"
#include "bind/options/activation.hpp"
#include "bind/options/active_columns.hpp"
#include "bind/options/arguments.hpp"
#include "bind/options/philox.hpp"
#include "bind/register.hpp"
#include "core/params/elementwise.hpp"
#include "core/params/linear.hpp"

namespace fusedrop::bind {
namespace {

// The arguments of a layer that are not arrays.
struct LinearOptions {
  Activation activation;
  bool dropout_first, unit;
  double p, input_p;
  py::handle rng;
};

// A comparison of kernels sets TF32 for its own thread: other threads must go on as the user has set it.
std::atomic<bool> tf32_products{false};
thread_local bool tf32_while_verifying = false;

bool get_tf32() { return is_verifying() ? tf32_while_verifying : tf32_products.load(); }

void set_tf32(const py::handle& on) {
  if (is_verifying())
    tf32_while_verifying = flag(on, "on");
  else
    tf32_products = flag(on, "on");
}

// Runs before any array is viewed: __float__ of a caller's class can do anything, such as resize x.
LinearOptions linear_options(const Arguments<6>& arguments) {
  const auto& [activation, p, rng, dropout_first, input_p, granularity] = arguments;
  return {activation_from(activation), flag(dropout_first, "dropout_first"), is_unit(granularity),
          probability(p, "p"),         probability(input_p, "input_p"),      rng};
}

// What linear_backward needs.
struct LinearContext {
  Library library;  // of x
  SavedArray x, w, saved_activation;  // saved_activation: y or z, as `saved_kind` says, or none
  SavedArray active_inputs, device_key;  // on a device, or none
  EpilogueParams epilogue;  // without the bias, which only forward needs
  Mask input_mask;
  bool has_bias, has_residual, tf32;
  ActiveColumnList outputs, inputs;  // on the CPU: the columns of y and of x that kernels compute with
  double input_scale;

  i64 M() const { return x.shape[0]; }
  i64 K() const { return x.shape[1]; }
  i64 N() const { return w.shape[0]; }
  const char* saved_name() const { return saved_name_of(epilogue.saved_kind); }
  // Columns that unit dropout drops from y are 0, and not act(0) or the residual.
  bool drops_to_zero() const {
    return !(epilogue.dropout_first && epilogue.activation == Activation::sigmoid) && !has_residual;
  }
  DeviceCall device_call() const { return {nullptr, nullptr, static_cast<const bool*>(active_inputs.data), tf32}; }
};

// x [M, K] and w [N, K].
void set_operands(const Call& call, const py::handle& x_arg, const py::handle& w_arg, LinearContext& s) {
  s.x = call.floating(x_arg, "x");
  require_rank(s.x, "x", 2, "[M, K]");
  s.w = call.like(w_arg, "w", s.x, "x");
  if (s.w.rank() != 2 || s.w.shape[1] != s.x.shape[1])
    throw py::value_error("w must be [N, K] = " + shape_text({-1, s.K()}) + " to match x " + shape_text(s.x.shape) +
                          "; got " + shape_text(s.w.shape));
}

Array residual_array(const Call& call, const py::handle& value, const LinearContext& s) {
  if (value.is_none()) return {};
  Array residual = call.like(value, "residual", s.x, "x");
  if (residual.shape != Dims{s.M(), s.N()})
    throw py::value_error("residual must be [M, N] = " + shape_text({s.M(), s.N()}) + " to match y; got " +
                          shape_text(residual.shape));
  return residual;
}

Array active_inputs_array(const Call& call, const py::handle& value, const LinearContext& s) {
  if (value.is_none()) return {};
  if (s.input_mask.threshold != 0 && !s.input_mask.unit)
    throw py::value_error("active_inputs must be None beside an input_p that drops single elements; got an array");
  return active_columns_array(call, value, s.K());
}

// Everything but what forward saves.
void set_options(const Call& call, const LinearOptions& options, const py::handle& active_inputs, LinearContext& s) {
  s.epilogue.activation = options.activation;
  s.epilogue.dropout_first = options.dropout_first;
  s.epilogue.saved_kind = saved_kind_for(saved_kind_of(s.epilogue.activation), s.has_residual);
  const MaskKey key(options.rng, call);
  s.device_key = key.device_key();
  s.epilogue.mask = key.mask(options.p, "p", options.unit, s.M(), s.N());
  s.input_mask = key.input_mask(options.input_p, "input_p", options.unit, s.M(), s.K());
  s.active_inputs = active_inputs_array(call, active_inputs, s);
  s.input_scale = keep_scale(s.input_mask.threshold);
  s.tf32 = get_tf32();
  const bool in_tf32 = s.tf32 && s.x.type == kFloat32;
  call.require_verified([&] { return "linear " + (in_tf32 ? "tf32" : type_name(s.x.type)); });
  if (call.on_device()) return;  // active columns are found on the device
  s.outputs = ActiveColumnList(s.epilogue.mask, {}, s.N());
  s.inputs = ActiveColumnList(s.input_mask, s.active_inputs, s.K());
  if (s.input_mask.unit) s.input_mask.threshold = 0;  // `inputs` replaces it
}

// The members that forward's and backward's arguments have in common.
template <class Args>
Args common_args(const LinearContext& s) {
  Args args{};
  args.dtype = dtype_of(s.x);
  args.M = s.M(), args.N = s.N(), args.K = s.K();
  args.x = matrix(s.x);
  args.w = matrix(s.w);
  args.epilogue = s.epilogue;
  args.input_mask = s.input_mask;
  args.outputs = s.outputs.view();
  args.inputs = s.inputs.view();
  args.input_scale = s.input_scale;
  return args;
}

py::object linear_forward(const Arguments<14>& arguments) {
  const auto& [x_arg, w_arg, b_arg, activation, p, rng, dropout_first, input_p, residual_arg, granularity,
               active_inputs, out_arg, z_arg, save_arg] = arguments;
  const bool save = save_arg.ptr() == Py_True;
  LinearContext s{};
  s.library = Library(x_arg, "x");
  const Call call(s.library);
  const LinearOptions options = linear_options({activation, p, rng, dropout_first, input_p, granularity});
  set_operands(call, x_arg, w_arg, s);
  const Array b = call.bias(b_arg, s.x, s.w), residual = residual_array(call, residual_arg, s);
  s.has_bias = static_cast<bool>(b), s.has_residual = static_cast<bool>(residual);
  set_options(call, options, active_inputs, s);

  const Dims y_shape{s.M(), s.N()};
  Array y, z;
  if (!out_arg.is_none()) {
    y = call.output(out_arg, "out", "[M, N]", y_shape, s.x.type);
    refuse_overlap("out", y,
                   {{"x", &s.x}, {"w", &s.w}, {"b", &b}, {"residual", &residual}, {"active_inputs", &s.active_inputs}});
  } else {
    y = call.empty(y_shape, s.x.type);
  }
  if (!z_arg.is_none())
    z = call.output(z_arg, "z", "[M, N]", y_shape, s.x.type);
  else if (save && s.epilogue.saved_kind == SavedKind::preactivation)
    z = call.empty(y_shape, s.x.type);
  auto args = common_args<LinearForwardArgs>(s);
  if (b) args.epilogue.b = b.data, args.epilogue.b_stride = b.strides[0];
  if (residual) args.residual = matrix(residual);
  args.y = y.data;
  args.z = z.data;
  call.run(kernels::linear_forward, args, {&s.x, &s.w, &b, &residual, &s.active_inputs, &s.device_key, &y, &z},
           s.device_call());
  py::object result = out_arg.is_none() ? call.wrap(y) : py::reinterpret_borrow<py::object>(out_arg);
  if (!save) return result;
  s.x.save(x_arg);
  s.w.save(w_arg);
  if (call.on_device()) s.active_inputs.save(active_inputs);
  const bool saves_y = s.epilogue.saved_kind == SavedKind::output;
  const py::handle& given = saves_y ? out_arg : z_arg;
  s.saved_activation = saves_y ? std::move(y) : std::move(z);
  if (!given.is_none()) s.saved_activation.save(given);
  return py::make_tuple(std::move(result), std::move(s));
}

py::object backward(const Call& call, const LinearContext& s, const py::handle& dy_arg, const Arguments<3>& gradients) {
  const Array dy = call.like(dy_arg, "dy", s.x, "x");
  if (dy.shape != Dims{s.M(), s.N()})
    throw py::value_error("dy must be [M, N] = " + shape_text({s.M(), s.N()}) + " to match y; got " +
                          shape_text(dy.shape));
  Destination dx{gradients[0], "dx", "[M, K]", {s.M(), s.K()}}, dw{gradients[1], "dw", "[N, K]", {s.N(), s.K()}};
  Destination db{gradients[2], "db", "[N]", {s.N()}};
  if (!s.has_bias) refuse_bias_gradient(db, "a layer");
  set_arrays(call, {&dx, &dw, &db}, s.x.type,
             {{"dy", &dy}, {"x", &s.x}, {"w", &s.w}, {s.saved_name(), &s.saved_activation}});
  auto args = common_args<LinearBackwardArgs>(s);
  args.dy = matrix(dy);
  args.saved_activation = s.saved_activation.data;
  args.dx = dx.array.data;
  args.dw = dw.array.data;
  args.db = db.array.data;
  call.run(kernels::linear_backward, args,
           {&dy, &s.x, &s.w, &s.active_inputs, &s.device_key, &s.saved_activation, &dx.array, &dw.array, &db.array},
           s.device_call());
  return py::make_tuple(returned_gradient(call, dx), returned_gradient(call, dw), returned_gradient(call, db));
}

py::object linear_backward(const Arguments<5>& arguments) {
  const auto& [dy_arg, saved_arg, dx_arg, dw_arg, db_arg] = arguments;
  const auto* s = instance_of<LinearContext>(saved_arg);
  if (s == nullptr) throw py::type_error("saved must be what linear_forward returned; got " + type_text(saved_arg));
  s->x.require_unchanged("x");
  s->w.require_unchanged("w");
  s->active_inputs.require_unchanged("active_inputs");
  s->device_key.require_unchanged("rng.drawn");
  s->saved_activation.require_unchanged(s->saved_name());
  return backward(Call(s->library), *s, dy_arg, {dx_arg, dw_arg, db_arg});
}

// linear_backward without a context, from arrays that the caller has kept itself. It serves operators of another
// library's autograd, which can save arrays but not the context.
py::object linear_gradients(const Arguments<15>& arguments) {
  const auto& [dy_arg, x_arg, w_arg, saved_activation, has_bias, has_residual, activation, p, rng, dropout_first,
               input_p, granularity, dx_arg, dw_arg, db_arg] = arguments;
  LinearContext s{};
  s.library = Library(x_arg, "x");
  const Call call(s.library);
  const LinearOptions options = linear_options({activation, p, rng, dropout_first, input_p, granularity});
  set_operands(call, x_arg, w_arg, s);
  s.has_bias = flag(has_bias, "has_bias"), s.has_residual = flag(has_residual, "has_residual");
  set_options(call, options, py::none(), s);
  if (s.epilogue.saved_kind != SavedKind::nothing)
    s.saved_activation = call.output(saved_activation, s.saved_name(), "[M, N]", {s.M(), s.N()}, s.x.type);
  return backward(call, s, dy_arg, {dx_arg, dw_arg, db_arg});
}

// The columns of y that the unit mask keeps, and that are not known to be 0.
py::object active_outputs(const LinearContext& s) {
  if (!s.drops_to_zero() || !s.epilogue.mask.unit || s.epilogue.mask.threshold == 0) return py::none();
  const Call call(s.library);
  call.require_verified([] { return std::string("dropout_mask"); });
  const Array keep = call.empty({s.N()}, kBoolean);
  const DropoutMaskArgs args{1, s.N(), static_cast<bool*>(keep.data), s.epilogue.mask};
  call.run(kernels::dropout_mask, args, {&keep, &s.device_key});
  return call.wrap(keep);
}

}  // namespace

void register_linear(py::module_& m) {
  py::class_<LinearContext>(
      m, "LinearContext",
      "What linear_forward saves for linear_backward: x, w, and y or z; no mask. Opaque except for these.",
      py::is_final())
      .def_property_readonly("x", [](const LinearContext& s) { return s.x.object; })
      .def_property_readonly("w", [](const LinearContext& s) { return s.w.object; })
      .def_property_readonly("kind", &LinearContext::saved_name, "'y', 'z' or 'nothing': which [M, N] array is saved.")
      .def_property_readonly("saved_activation",
                             [](const LinearContext& s) {
                               const SavedArray& saved = s.saved_activation;
                               return saved.object ? saved.object : s.library.wrap(saved);
                             })
      .def_property_readonly(
          "active_outputs", &active_outputs,
          "bool [N], False for the columns of y that unit dropout has set to 0; None where there are none.");
  forbid_new(m.attr("LinearContext"));
  m.def("set_tf32", &set_tf32, py::arg("on"));
  m.def("get_tf32", &get_tf32);
  def<&linear_forward>(m, "linear_forward",
                       {"x", "w", "b", "activation", "p", "rng", "dropout_first", "input_p", "residual", "granularity",
                        "active_inputs", "out", "z", "save"});
  def<&linear_backward>(m, "linear_backward", {"dy", "saved", "dx", "dw", "db"});
  def<&linear_gradients>(m, "linear_gradients",
                         {"dy", "x", "w", "saved_activation", "has_bias", "has_residual", "activation", "p", "rng",
                          "dropout_first", "input_p", "granularity", "dx", "dw", "db"});
}

}  // namespace fusedrop::bind
