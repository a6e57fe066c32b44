// bind_linear: linear_forward, linear_backward and Saved, what the first leaves for the second.
#include <string>

#include "bind/activation_name.hpp"
#include "bind/arrays.hpp"
#include "bind/cuda_module.hpp"
#include "bind/destinations.hpp"
#include "bind/dlpack.hpp"
#include "bind/kept_columns.hpp"
#include "bind/register.hpp"
#include "bind/rng.hpp"
#include "bind/text.hpp"
#include "cpu/dispatch.hpp"

namespace fusedrop::bind {
namespace {

struct Saved {
  py::array x, w, kept;  // kept: y or z as `saved` says
  bool has_bias;
  fusedrop::Saved saved;
  Activation activation;
  bool before;
  Mask mask, input_mask;
  Library library;  // x's
  KeptColumns outputs, inputs;
  double input_scale;
  bool drops_to_zero;  // what unit dropout leaves out of y is 0, and not act(0) or a residual
};

const char* saved_name(const Saved& s) {
  return s.saved == fusedrop::Saved::output ? "y" : s.saved == fusedrop::Saved::preactivation ? "z" : "nothing";
}

py::array weight_matching(const py::handle& value, const py::array& x) {
  const py::array w = array_like(value, "w", x, "x");
  if (w.ndim() != 2 || w.shape(1) != x.shape(1))
    throw py::value_error("w must be [N, K] = " + shape_text({-1, x.shape(1)}) + " to match x " + shape_text(x) +
                          "; got " + shape_text(w));
  return w;
}

py::array bias_matching(const py::handle& value, const py::array& x, const py::array& w) {
  const py::array b = array_like(value, "b", x, "x");
  if (b.ndim() != 1 || b.shape(0) != w.shape(0))
    throw py::value_error("b must be [N] = " + shape_text({w.shape(0)}) + " to match w " + shape_text(w) + "; got " +
                          shape_text(b));
  return b;
}

py::array residual_matching(const py::handle& value, const py::array& x, i64 M, i64 N) {
  const py::array residual = array_like(value, "residual", x, "x");
  if (residual.ndim() != 2 || residual.shape(0) != M || residual.shape(1) != N)
    throw py::value_error("residual must be [M, N] = " + shape_text({M, N}) + " to match y; got " +
                          shape_text(residual));
  return residual;
}

// What backward needs, but for the kept array itself.
Saved saved_of(const py::array& x, const py::array& w, bool has_bias, bool has_residual, Activation activation,
               bool before, const Mask& mask, const Mask& input_mask, const py::object& known_inputs,
               const Library& library) {
  Saved saved{x,
              w,
              {},
              has_bias,
              saved_for(keeps_of(activation), has_residual),
              activation,
              before,
              mask,
              input_mask,
              library,
              KeptColumns(mask, py::none(), w.shape(0)),
              KeptColumns(input_mask, known_inputs, x.shape(1)),
              keep_scale(input_mask.threshold),
              !(before && activation == Activation::sigmoid) && !has_residual};
  if (input_mask.unit) saved.input_mask.threshold = 0;  // `inputs` stands for it
  return saved;
}

py::object linear_forward(const py::handle& x_given, const py::handle& w_given, const py::handle& b_given,
                          const py::handle& activation, const py::handle& p_in, const py::handle& rng,
                          const py::handle& before, const py::handle& input_p_in, const py::handle& residual_given,
                          const py::handle& granularity, const py::handle& kept_inputs, const py::handle& out_given,
                          bool save) {
  if (on_cuda(x_given))
    return cuda_function("linear_forward", x_given, "x")(x_given, w_given, b_given, activation, p_in, rng, before,
                                                         input_p_in, residual_given, granularity, kept_inputs,
                                                         out_given, save);
  const py::object x_in = viewed(x_given, "x"), w_in = viewed(w_given, "w"), b_in = viewed(b_given, "b");
  const py::object residual_in = viewed(residual_given, "residual"), out = viewed(out_given, "out");
  const py::array x = floating_array(x_in, "x");
  require_rank(x, "x", 2, "[M, K]");
  const py::array w = weight_matching(w_in, x);
  const i64 M = x.shape(0), K = x.shape(1), N = w.shape(0);
  LinearForwardArgs args{};
  py::array b, residual;
  if (!b_in.is_none()) b = bias_matching(b_in, x, w);
  if (!residual_in.is_none()) residual = residual_matching(residual_in, x, M, N);
  args.dtype = dtype_of(x);
  args.M = M, args.N = N, args.K = K;
  args.x = matrix(x);
  args.w = matrix(w);
  if (!b_in.is_none()) args.b = b.data(), args.b_stride = stride(b, 0);
  if (!residual_in.is_none()) args.residual = matrix(residual);
  args.activation = activation_from(activation);
  args.before = flag(before, "dropout_before_activation");
  const bool unit = is_unit(granularity);
  args.mask = make_mask(rng, probability(p_in, "p"), "p", unit, M, N);
  args.input_mask = make_input_mask(rng, probability(input_p_in, "input_p"), "input_p", unit, M, K);

  py::array y = out.is_none() ? new_array({M, N}, x) : output_array(out, "out", "[M, N]", {M, N}, x);
  if (!out.is_none()) refuse_overlap("out", y, {{"x", x_in}, {"w", w_in}, {"b", b_in}, {"residual", residual_in}});
  if (!kept_inputs.is_none() && args.input_mask.threshold != 0 && !unit)
    throw py::value_error("kept_inputs must be None beside an input_p that drops single elements; got an array");
  Saved saved = saved_of(x, w, !b_in.is_none(), !residual_in.is_none(), args.activation, args.before, args.mask,
                         args.input_mask, kept_columns_array(kept_inputs, K), Library(x_given));
  args.outputs = saved.outputs.view();
  args.inputs = saved.inputs.view();
  args.input_scale = saved.input_scale;
  args.input_mask = saved.input_mask;
  if (saved.saved == fusedrop::Saved::output) saved.kept = y;
  if (save && saved.saved == fusedrop::Saved::preactivation) {
    saved.kept = new_array({M, N}, x);
    args.z = saved.kept.mutable_data();
  }
  args.y = y.mutable_data();
  {
    py::gil_scoped_release release;
    cpu::backend().linear_forward(args);
  }
  py::object result = out.is_none() ? saved.library.wrap(y) : py::reinterpret_borrow<py::object>(out_given);
  if (!save) return result;
  return py::make_tuple(std::move(result), std::move(saved));
}

// What linear_forward would have left, of parts that the caller kept: an operator of another library's autograd.
py::object restore_saved(const py::handle& x_given, const py::handle& w_given, const py::handle& kept_given,
                         bool has_bias, const py::handle& activation_in, const py::handle& p_in, const py::handle& rng,
                         const py::handle& before, const py::handle& input_p_in, bool has_residual,
                         const py::handle& granularity) {
  if (on_cuda(x_given))
    return cuda_function("restore_saved", x_given, "x")(x_given, w_given, kept_given, has_bias, activation_in, p_in,
                                                        rng, before, input_p_in, has_residual, granularity);
  const py::array x = floating_array(viewed(x_given, "x"), "x");
  require_rank(x, "x", 2, "[M, K]");
  const py::array w = weight_matching(viewed(w_given, "w"), x);
  const i64 M = x.shape(0), K = x.shape(1), N = w.shape(0);
  const bool unit = is_unit(granularity);
  const Mask mask = make_mask(rng, probability(p_in, "p"), "p", unit, M, N);
  const Mask input_mask = make_input_mask(rng, probability(input_p_in, "input_p"), "input_p", unit, M, K);
  Saved saved = saved_of(x, w, has_bias, has_residual, activation_from(activation_in),
                         flag(before, "dropout_before_activation"), mask, input_mask, py::none(), Library(x_given));
  if (saved.saved != fusedrop::Saved::nothing) {
    const py::object kept = viewed(kept_given, saved_name(saved));
    saved.kept = output_array(kept, saved_name(saved), "[M, N]", {M, N}, x);
  }
  return py::cast(std::move(saved));
}

py::object linear_backward(const py::handle& dy_given, const py::handle& saved_in, const py::handle& dx_given,
                           const py::handle& dw_given, const py::handle& db_given) {
  if (!py::isinstance<Saved>(saved_in) && is_cuda_saved(saved_in))
    return cuda_function("linear_backward", dy_given, "dy")(dy_given, saved_in, dx_given, dw_given, db_given);
  const py::object dy_in = viewed(dy_given, "dy"), want_dx = viewed(dx_given, "dx"), want_dw = viewed(dw_given, "dw");
  const py::object want_db = viewed(db_given, "db");
  if (!py::isinstance<Saved>(saved_in))
    throw py::type_error("saved must be what linear_forward returned; got " + type_text(saved_in));
  const Saved& saved = saved_in.cast<const Saved&>();
  const i64 M = saved.x.shape(0), K = saved.x.shape(1), N = saved.w.shape(0);
  const py::array dy = array_like(dy_in, "dy", saved.x, "x");
  if (dy.ndim() != 2 || dy.shape(0) != M || dy.shape(1) != N)
    throw py::value_error("dy must be [M, N] = " + shape_text({M, N}) + " to match y; got " + shape_text(dy));
  const std::initializer_list<Named> inputs = {
      {"dy", dy_in}, {"x", saved.x}, {"w", saved.w}, {saved_name(saved), saved.kept}};
  py::object dx = destination(want_dx, "dx", "[M, K]", {M, K}, saved.x, inputs);
  py::object dw = destination(want_dw, "dw", "[N, K]", {N, K}, saved.x, inputs);
  if (!saved.has_bias && want_db.ptr() != Py_True && want_db.ptr() != Py_False)
    throw py::type_error("db must be True or False for a layer without bias; got " + repr_text(want_db));
  py::object db = saved.has_bias ? destination(want_db, "db", "[N]", {N}, saved.x, inputs) : py::object(py::none());
  refuse_shared({{"dx", dx}, {"dw", dw}, {"db", db}});

  LinearBackwardArgs args{};
  args.dtype = dtype_of(saved.x);
  args.M = M, args.N = N, args.K = K;
  args.dy = matrix(dy);
  args.x = matrix(saved.x);
  args.w = matrix(saved.w);
  args.kept = saved.saved == fusedrop::Saved::nothing ? nullptr : saved.kept.data();
  args.saved = saved.saved;
  args.dx = data_of(dx);
  args.dw = data_of(dw);
  args.db = data_of(db);
  args.activation = saved.activation;
  args.before = saved.before;
  args.mask = saved.mask;
  args.input_mask = saved.input_mask;
  args.outputs = saved.outputs.view();
  args.inputs = saved.inputs.view();
  args.input_scale = saved.input_scale;
  {
    py::gil_scoped_release release;
    cpu::backend().linear_backward(args);
  }
  return py::make_tuple(returned(saved.library, dx_given, dx), returned(saved.library, dw_given, dw),
                        returned(saved.library, db_given, db));
}

}  // namespace

void register_linear(py::module_& m) {
  py::class_<Saved>(m, "Saved",
                    "What linear_forward keeps for linear_backward: x, w, and y or z; no mask. Opaque but for these.",
                    py::is_final())
      .def_readonly("x", &Saved::x)
      .def_readonly("w", &Saved::w)
      .def_property_readonly("kind", &saved_name, "'y', 'z' or 'nothing': which [M, N] array is kept.")
      .def_property_readonly("kept",
                             [](const Saved& s) {
                               return s.saved == fusedrop::Saved::nothing ? py::object(py::none())
                                                                          : s.library.wrap(s.kept);
                             })
      .def_property_readonly(
          "kept_outputs",
          [](const Saved& s) { return s.drops_to_zero ? s.outputs.array(s.w.shape(0)) : py::object(py::none()); },
          "bool [N], False for the columns of y that unit dropout has made 0; None where it has made none.");
  m.def("linear_forward", &linear_forward, py::arg("x"), py::arg("w"), py::arg("b"), py::arg("activation"),
        py::arg("p"), py::arg("rng"), py::arg("dropout_before_activation"), py::arg("input_p"), py::arg("residual"),
        py::arg("granularity"), py::arg("kept_inputs"), py::arg("out"), py::arg("save"));
  m.def("restore_saved", &restore_saved, py::arg("x"), py::arg("w"), py::arg("kept"), py::arg("has_bias"),
        py::arg("activation"), py::arg("p"), py::arg("rng"), py::arg("dropout_before_activation"), py::arg("input_p"),
        py::arg("has_residual"), py::arg("granularity"));
  m.def("linear_backward", &linear_backward, py::arg("dy"), py::arg("saved"), py::arg("dx"), py::arg("dw"),
        py::arg("db"));
}

}  // namespace fusedrop::bind
