// linear: linear_forward, linear_backward, and LinearContext, which forward returns for backward.
#include <string>

#include "bind/array/array.hpp"
#include "bind/array/destinations.hpp"
#include "bind/array/dlpack.hpp"
#include "bind/array/text.hpp"
#include "bind/options/activation.hpp"
#include "bind/options/active_columns.hpp"
#include "bind/options/cuda_module.hpp"
#include "bind/options/philox.hpp"
#include "bind/register.hpp"
#include "cpu/runtime/dispatch.hpp"

namespace fusedrop::bind {
namespace {

struct LinearContext {
  py::array x, w, saved_activation;  // saved_activation: y or z, as `saved_kind` says
  bool has_bias;
  SavedKind saved_kind;
  Activation activation;
  bool dropout_first;
  Mask mask, input_mask;
  ArrayLibrary library;  // of x
  ActiveColumnList outputs, inputs;  // the columns of y and of x that kernels compute with
  double input_scale;
  bool drops_to_zero;  // columns that unit dropout drops from y are 0, not act(0) or the residual
};

// The public name of what `saved_activation` holds.
const char* saved_name(const LinearContext& s) {
  return s.saved_kind == SavedKind::output ? "y" : s.saved_kind == SavedKind::preactivation ? "z" : "nothing";
}

py::array weight_array(const py::handle& value, const py::array& x) {
  const py::array w = array_like(value, "w", x, "x");
  if (w.ndim() != 2 || w.shape(1) != x.shape(1))
    throw py::value_error("w must be [N, K] = " + shape_text({-1, x.shape(1)}) + " to match x " + shape_text(x) +
                          "; got " + shape_text(w));
  return w;
}

py::array bias_array(const py::handle& value, const py::array& x, const py::array& w) {
  const py::array b = array_like(value, "b", x, "x");
  if (b.ndim() != 1 || b.shape(0) != w.shape(0))
    throw py::value_error("b must be [N] = " + shape_text({w.shape(0)}) + " to match w " + shape_text(w) + "; got " +
                          shape_text(b));
  return b;
}

py::array residual_array(const py::handle& value, const py::array& x, i64 M, i64 N) {
  const py::array residual = array_like(value, "residual", x, "x");
  if (residual.ndim() != 2 || residual.shape(0) != M || residual.shape(1) != N)
    throw py::value_error("residual must be [M, N] = " + shape_text({M, N}) + " to match y; got " +
                          shape_text(residual));
  return residual;
}

// The context without the array `saved_activation`.
LinearContext make_context(const py::array& x, const py::array& w, bool has_bias, bool has_residual,
                           Activation activation, bool dropout_first, const Mask& mask, const Mask& input_mask,
                           const py::object& active_inputs, const ArrayLibrary& library) {
  LinearContext saved{x,
                      w,
                      {},
                      has_bias,
                      saved_kind_for(saved_kind_of(activation), has_residual),
                      activation,
                      dropout_first,
                      mask,
                      input_mask,
                      library,
                      ActiveColumnList(mask, py::none(), w.shape(0)),
                      ActiveColumnList(input_mask, active_inputs, x.shape(1)),
                      keep_scale(input_mask.threshold),
                      !(dropout_first && activation == Activation::sigmoid) && !has_residual};
  if (input_mask.unit) saved.input_mask.threshold = 0;  // `inputs` replaces it
  return saved;
}

py::object linear_forward(const py::handle& x_arg, const py::handle& w_arg, const py::handle& b_arg,
                          const py::handle& activation, const py::handle& p, const py::handle& rng,
                          const py::handle& dropout_first, const py::handle& input_p, const py::handle& residual_arg,
                          const py::handle& granularity, const py::handle& active_inputs, const py::handle& out_arg,
                          bool save) {
  if (on_cuda(x_arg))
    return cuda_function("linear_forward", x_arg, "x")(x_arg, w_arg, b_arg, activation, p, rng, dropout_first, input_p,
                                                       residual_arg, granularity, active_inputs, out_arg, save);
  const py::object x_view = as_array(x_arg, "x"), w_view = as_array(w_arg, "w"), b_view = as_array(b_arg, "b");
  const py::object residual_view = as_array(residual_arg, "residual"), out_view = as_array(out_arg, "out");
  const py::array x = floating_array(x_view, "x");
  require_rank(x, "x", 2, "[M, K]");
  const py::array w = weight_array(w_view, x);
  const i64 M = x.shape(0), K = x.shape(1), N = w.shape(0);
  LinearForwardArgs args{};
  py::array b, residual;
  if (!b_view.is_none()) b = bias_array(b_view, x, w);
  if (!residual_view.is_none()) residual = residual_array(residual_view, x, M, N);
  args.dtype = dtype_of(x);
  args.M = M, args.N = N, args.K = K;
  args.x = matrix(x);
  args.w = matrix(w);
  if (!b_view.is_none()) args.b = b.data(), args.b_stride = stride(b, 0);
  if (!residual_view.is_none()) args.residual = matrix(residual);
  args.activation = activation_from(activation);
  args.dropout_first = flag(dropout_first, "dropout_first");
  const bool unit = is_unit(granularity);
  args.mask = make_mask(rng, probability(p, "p"), "p", unit, M, N);
  args.input_mask = make_input_mask(rng, probability(input_p, "input_p"), "input_p", unit, M, K);

  py::array y = out_view.is_none() ? new_array({M, N}, x) : output_array(out_view, "out", "[M, N]", {M, N}, x);
  if (!out_view.is_none())
    refuse_overlap("out", y, {{"x", x_view}, {"w", w_view}, {"b", b_view}, {"residual", residual_view}});
  if (!active_inputs.is_none() && args.input_mask.threshold != 0 && !unit)
    throw py::value_error("active_inputs must be None beside an input_p that drops single elements; got an array");
  LinearContext saved =
      make_context(x, w, !b_view.is_none(), !residual_view.is_none(), args.activation, args.dropout_first, args.mask,
                   args.input_mask, active_columns_array(active_inputs, K), ArrayLibrary(x_arg));
  args.outputs = saved.outputs.view();
  args.inputs = saved.inputs.view();
  args.input_scale = saved.input_scale;
  args.input_mask = saved.input_mask;
  if (saved.saved_kind == SavedKind::output) saved.saved_activation = y;
  if (save && saved.saved_kind == SavedKind::preactivation) {
    saved.saved_activation = new_array({M, N}, x);
    args.z = saved.saved_activation.mutable_data();
  }
  args.y = y.mutable_data();
  {
    py::gil_scoped_release release;
    cpu::backend().linear_forward(args);
  }
  py::object result = out_view.is_none() ? saved.library.wrap(y) : py::reinterpret_borrow<py::object>(out_arg);
  if (!save) return result;
  return py::make_tuple(std::move(result), std::move(saved));
}

// The context that linear_forward would have returned, made from parts that the caller saved. It serves operators of
// another library's autograd, which can save arrays but not the context.
py::object restore_context(const py::handle& x_arg, const py::handle& w_arg, const py::handle& saved_activation_arg,
                           bool has_bias, const py::handle& activation, const py::handle& p, const py::handle& rng,
                           const py::handle& dropout_first, const py::handle& input_p, bool has_residual,
                           const py::handle& granularity) {
  if (on_cuda(x_arg))
    return cuda_function("restore_context", x_arg, "x")(x_arg, w_arg, saved_activation_arg, has_bias, activation, p,
                                                        rng, dropout_first, input_p, has_residual, granularity);
  const py::array x = floating_array(as_array(x_arg, "x"), "x");
  require_rank(x, "x", 2, "[M, K]");
  const py::array w = weight_array(as_array(w_arg, "w"), x);
  const i64 M = x.shape(0), K = x.shape(1), N = w.shape(0);
  const bool unit = is_unit(granularity);
  const Mask mask = make_mask(rng, probability(p, "p"), "p", unit, M, N);
  const Mask input_mask = make_input_mask(rng, probability(input_p, "input_p"), "input_p", unit, M, K);
  LinearContext saved =
      make_context(x, w, has_bias, has_residual, activation_from(activation), flag(dropout_first, "dropout_first"),
                   mask, input_mask, py::none(), ArrayLibrary(x_arg));
  if (saved.saved_kind != SavedKind::nothing) {
    const py::object view = as_array(saved_activation_arg, saved_name(saved));
    saved.saved_activation = output_array(view, saved_name(saved), "[M, N]", {M, N}, x);
  }
  return py::cast(std::move(saved));
}

py::object linear_backward(const py::handle& dy_arg, const py::handle& saved_arg, const py::handle& dx_arg,
                           const py::handle& dw_arg, const py::handle& db_arg) {
  if (!py::isinstance<LinearContext>(saved_arg) && is_cuda_context(saved_arg))
    return cuda_function("linear_backward", dy_arg, "dy")(dy_arg, saved_arg, dx_arg, dw_arg, db_arg);
  const py::object dy_view = as_array(dy_arg, "dy"), dx_view = as_array(dx_arg, "dx"), dw_view = as_array(dw_arg, "dw");
  const py::object db_view = as_array(db_arg, "db");
  if (!py::isinstance<LinearContext>(saved_arg))
    throw py::type_error("saved must be what linear_forward returned; got " + type_text(saved_arg));
  const LinearContext& saved = saved_arg.cast<const LinearContext&>();
  const i64 M = saved.x.shape(0), K = saved.x.shape(1), N = saved.w.shape(0);
  const py::array dy = array_like(dy_view, "dy", saved.x, "x");
  if (dy.ndim() != 2 || dy.shape(0) != M || dy.shape(1) != N)
    throw py::value_error("dy must be [M, N] = " + shape_text({M, N}) + " to match y; got " + shape_text(dy));
  const std::initializer_list<NamedArray> inputs = {
      {"dy", dy_view}, {"x", saved.x}, {"w", saved.w}, {saved_name(saved), saved.saved_activation}};
  py::object dx = destination(dx_view, "dx", "[M, K]", {M, K}, saved.x, inputs);
  py::object dw = destination(dw_view, "dw", "[N, K]", {N, K}, saved.x, inputs);
  if (!saved.has_bias && db_view.ptr() != Py_True && db_view.ptr() != Py_False)
    throw py::type_error("db must be True or False for a layer without bias; got " + repr_text(db_view));
  py::object db = saved.has_bias ? destination(db_view, "db", "[N]", {N}, saved.x, inputs) : py::object(py::none());
  refuse_shared({{"dx", dx}, {"dw", dw}, {"db", db}});

  LinearBackwardArgs args{};
  args.dtype = dtype_of(saved.x);
  args.M = M, args.N = N, args.K = K;
  args.dy = matrix(dy);
  args.x = matrix(saved.x);
  args.w = matrix(saved.w);
  args.saved_activation = saved.saved_kind == SavedKind::nothing ? nullptr : saved.saved_activation.data();
  args.saved_kind = saved.saved_kind;
  args.dx = data_of(dx);
  args.dw = data_of(dw);
  args.db = data_of(db);
  args.activation = saved.activation;
  args.dropout_first = saved.dropout_first;
  args.mask = saved.mask;
  args.input_mask = saved.input_mask;
  args.outputs = saved.outputs.view();
  args.inputs = saved.inputs.view();
  args.input_scale = saved.input_scale;
  {
    py::gil_scoped_release release;
    cpu::backend().linear_backward(args);
  }
  return py::make_tuple(returned_gradient(saved.library, dx_arg, dx), returned_gradient(saved.library, dw_arg, dw),
                        returned_gradient(saved.library, db_arg, db));
}

}  // namespace

void register_linear(py::module_& m) {
  py::class_<LinearContext>(
      m, "LinearContext",
      "What linear_forward saves for linear_backward: x, w, and y or z; no mask. Opaque except for these.",
      py::is_final())
      .def_readonly("x", &LinearContext::x)
      .def_readonly("w", &LinearContext::w)
      .def_property_readonly("kind", &saved_name, "'y', 'z' or 'nothing': which [M, N] array is saved.")
      .def_property_readonly("saved_activation",
                             [](const LinearContext& s) {
                               return s.saved_kind == SavedKind::nothing ? py::object(py::none())
                                                                         : s.library.wrap(s.saved_activation);
                             })
      .def_property_readonly(
          "active_outputs",
          [](const LinearContext& s) {
            return s.drops_to_zero ? s.outputs.array(s.w.shape(0)) : py::object(py::none());
          },
          "bool [N], False for the columns of y that unit dropout has set to 0; None where there are none.");
  m.def("linear_forward", &linear_forward, py::arg("x"), py::arg("w"), py::arg("b"), py::arg("activation"),
        py::arg("p"), py::arg("rng"), py::arg("dropout_first"), py::arg("input_p"), py::arg("residual"),
        py::arg("granularity"), py::arg("active_inputs"), py::arg("out"), py::arg("save"));
  m.def("restore_context", &restore_context, py::arg("x"), py::arg("w"), py::arg("saved_activation"),
        py::arg("has_bias"), py::arg("activation"), py::arg("p"), py::arg("rng"), py::arg("dropout_first"),
        py::arg("input_p"), py::arg("has_residual"), py::arg("granularity"));
  m.def("linear_backward", &linear_backward, py::arg("dy"), py::arg("saved"), py::arg("dx"), py::arg("dw"),
        py::arg("db"));
}

}  // namespace fusedrop::bind
