// lstm: lstm_forward, lstm_backward, and LSTMContext, which forward returns for backward.
#include <cstring>
#include <string>

#include "bind/array/array.hpp"
#include "bind/array/destinations.hpp"
#include "bind/array/dlpack.hpp"
#include "bind/array/text.hpp"
#include "bind/options/philox.hpp"
#include "bind/register.hpp"
#include "cpu/runtime/dispatch.hpp"

namespace fusedrop::bind {
namespace {

struct LstmContext {
  py::array x, w_ih, w_hh, c0;
  py::array gates, cells, h_prev;
  i64 B, T, I, H;
  bool has_bias, return_sequences;
  GateMasks input, recurrent;
  ArrayLibrary library;  // of x
};

py::array float_array(const py::handle& value, const char* name) {
  const py::array a = floating_array(value, name);
  if (dtype_of(a) == Dtype::bfloat16)
    throw py::type_error(std::string(name) + " must be float32 or float64 in an LSTM; got bfloat16");
  return a;
}

// An array of the dtype of `like` and of this shape; `dims` is the notation of the shape.
py::array array_of_shape(const py::handle& value, const char* name, const char* dims,
                         std::initializer_list<py::ssize_t> shape, const py::array& like, const char* like_name) {
  const py::array a = array_like(value, name, like, like_name);
  bool same = a.ndim() == static_cast<py::ssize_t>(shape.size());
  py::ssize_t axis = 0;
  for (const py::ssize_t size : shape) same = same && a.shape(axis++) == size;
  if (!same)
    throw py::value_error(std::string(name) + " must be " + dims + " = " + shape_text(shape) + " to match " +
                          like_name + "; got " + shape_text(a));
  return a;
}

const void* data_or_null(const py::object& a) {
  return a.is_none() ? nullptr : py::reinterpret_borrow<py::array>(a).data();
}

// w_hh [4H, H], whose shape determines H.
py::array recurrent_weight(const py::handle& value, const py::array& x) {
  const py::array w = array_like(value, "w_hh", x, "x");
  if (w.ndim() != 2 || w.shape(0) != 4 * w.shape(1))
    throw py::value_error("w_hh must be [4H, H], the gates i, f, c, o below each other; got " + shape_text(w));
  return w;
}

// A state [B,H] in C order; zeros for None.
py::array state_array(const py::handle& value, const char* name, i64 B, i64 H, const py::array& x) {
  if (value.is_none()) {
    py::array zeros = new_array({B, H}, x);
    std::memset(zeros.mutable_data(), 0, static_cast<std::size_t>(zeros.nbytes()));
    return zeros;
  }
  return contiguous(array_of_shape(value, name, "[B, H]", {B, H}, x, "x and w_hh"));
}

// The caller's rng, for masks whose rows are b*T + t: its row0 counts sequences. With time_constant the T rows of a
// sequence share one mask row.
py::object sequence_rng(const py::handle& rng, i64 B, i64 T, bool time_constant) {
  if (!py::isinstance<Philox>(rng)) return py::reinterpret_borrow<py::object>(rng);  // None, or make_mask's error
  Philox key = rng.cast<Philox>();
  if (key.repeat != 1 || key.period != 0 || key.col0 != 0)
    throw py::value_error(
        "rng must have repeat 1, period None and col0 0 for an LSTM, whose time_constant says what is repeated; got " +
        repr_text(rng));
  const u64 rows = static_cast<u64>(T > 0 ? T : 1), max_sequences = kMaxRows / (time_constant ? 1 : rows);
  if (key.row0 + static_cast<u64>(B) > max_sequences)
    throw py::value_error("rng.row0 + B must not exceed " + std::to_string(max_sequences) +
                          " sequences of the mask; got row0 = " + std::to_string(key.row0) +
                          ", B = " + std::to_string(B));
  key.row0 *= rows;
  if (time_constant) key.repeat = rows;
  return py::cast(key);
}

GateMasks masks_of_gates(const Mask& mask, bool gate_masks) { return {mask, gate_masks && mask.threshold != 0}; }

Matrix rows_of(const py::array& a) {  // [B,T,N] in C order as [B*T,N]
  return {a.data(), a.shape(2), 1};
}

// The arguments that the forward and the backward kernel have in common.
template <class Args>
Args common_args(const LstmContext& saved) {
  Args args{};
  args.dtype = dtype_of(saved.x);
  args.B = saved.B, args.T = saved.T, args.I = saved.I, args.H = saved.H;
  args.x = rows_of(saved.x);
  args.w_ih = matrix(saved.w_ih);
  args.w_hh = matrix(saved.w_hh);
  args.c0 = saved.c0.data();
  args.input = saved.input;
  args.recurrent = saved.recurrent;
  return args;
}

// The checked arguments of a forward call. No array has been made except zeros for missing states.
struct ForwardCall {
  LstmContext saved;  // without the results of forward
  py::object b;
  py::array h0;
};

ForwardCall check_arguments(const py::handle& x_arg, const py::handle& w_ih_arg, const py::handle& w_hh_arg,
                            const py::handle& b_arg, const py::handle& h0_arg, const py::handle& c0_arg,
                            const py::handle& input_p_arg, const py::handle& recurrent_p_arg, const py::handle& rng_arg,
                            const py::handle& time_constant_arg, const py::handle& gate_masks_arg,
                            const py::handle& return_sequences_arg) {
  const py::array x = float_array(as_array(x_arg, "x"), "x");
  require_rank(x, "x", 3, "[B, T, I]");
  const py::array w_hh = recurrent_weight(as_array(w_hh_arg, "w_hh"), x);
  const i64 B = x.shape(0), T = x.shape(1), I = x.shape(2), H = w_hh.shape(1);
  const py::array w_ih = array_of_shape(as_array(w_ih_arg, "w_ih"), "w_ih", "[4H, I]", {4 * H, I}, x, "x and w_hh");
  py::object b = as_array(b_arg, "b");
  if (!b.is_none()) b = array_of_shape(b, "b", "[4H]", {4 * H}, x, "w_hh");
  const py::array h0 = state_array(as_array(h0_arg, "h0"), "h0", B, H, x),
                  c0 = state_array(as_array(c0_arg, "c0"), "c0", B, H, x);
  const double input_p = probability(input_p_arg, "input_p"), recurrent_p = probability(recurrent_p_arg, "recurrent_p");
  const bool time_constant = flag(time_constant_arg, "time_constant");
  const bool gate_masks = gate_masks_arg.is_none() ? recurrent_p != 0 : flag(gate_masks_arg, "gate_masks");
  const bool return_sequences = flag(return_sequences_arg, "return_sequences");
  const i64 masks = gate_masks ? kGates : 1;
  const py::object rng = sequence_rng(rng_arg, B, T, time_constant);
  const Mask input_mask = make_input_mask(rng, input_p, "input_p", false, B * T, masks * I);
  const Mask recurrent_mask = make_mask(rng, recurrent_p, "recurrent_p", false, B * T, masks * H);
  return {{contiguous(x),
           w_ih,
           w_hh,
           c0,
           {},
           {},
           {},
           B,
           T,
           I,
           H,
           !b.is_none(),
           return_sequences,
           masks_of_gates(input_mask, gate_masks),
           masks_of_gates(recurrent_mask, gate_masks),
           ArrayLibrary(x_arg)},
          b,
          h0};
}

py::tuple lstm_forward(const py::handle& x_arg, const py::handle& w_ih_arg, const py::handle& w_hh_arg,
                       const py::handle& b_arg, const py::handle& h0_arg, const py::handle& c0_arg,
                       const py::handle& input_p, const py::handle& recurrent_p, const py::handle& rng,
                       const py::handle& time_constant, const py::handle& gate_masks,
                       const py::handle& return_sequences, bool save) {
  auto [saved, b, h0] = check_arguments(x_arg, w_ih_arg, w_hh_arg, b_arg, h0_arg, c0_arg, input_p, recurrent_p, rng,
                                        time_constant, gate_masks, return_sequences);
  const i64 B = saved.B, T = saved.T, H = saved.H;
  saved.gates = new_array({kGates, B, T, H}, saved.x);
  saved.cells = new_array({B, T, H}, saved.x);
  saved.h_prev = new_array({B, T, H}, saved.x);
  py::array h = new_array({B, H}, saved.x), c = new_array({B, H}, saved.x);
  py::array y = saved.return_sequences ? new_array({B, T, H}, saved.x) : py::array();

  auto args = common_args<LstmForwardArgs>(saved);
  args.b = data_or_null(b);
  if (saved.has_bias) args.b_stride = stride(py::reinterpret_borrow<py::array>(b), 0);
  args.h0 = h0.data();
  args.y = saved.return_sequences ? y.mutable_data() : nullptr;
  args.h = h.mutable_data();
  args.c = c.mutable_data();
  args.gates = saved.gates.mutable_data();
  args.cells = saved.cells.mutable_data();
  args.h_prev = saved.h_prev.mutable_data();
  {
    py::gil_scoped_release release;
    cpu::backend().lstm_forward(args);
  }
  if (!saved.return_sequences)
    y = h.attr("copy")().cast<py::array>();  // a copy, because the caller can change one of them in place
  const ArrayLibrary library = saved.library;
  py::tuple last_state = py::make_tuple(library.wrap(h), library.wrap(c));
  if (!save) return py::make_tuple(library.wrap(y), std::move(last_state));
  return py::make_tuple(library.wrap(y), std::move(last_state), std::move(saved));
}

// The gradients by y [B,T,H], where forward returned all of it, and by the last state; in C order, or None.
struct OutputGradients {
  py::object dy, dh, dc;
};

OutputGradients output_gradients(const LstmContext& saved, const py::object& dy, const py::object& dh,
                                 const py::object& dc) {
  const i64 B = saved.B, T = saved.T, H = saved.H;
  const auto last = [&](const py::object& gradient, const char* name, const char* of) -> py::object {
    if (gradient.is_none()) return py::none();
    return contiguous(array_of_shape(gradient, name, "[B, H]", {B, H}, saved.x, of));
  };
  OutputGradients gradients{py::none(), {}, {}};
  if (saved.return_sequences)
    gradients.dy = contiguous(array_of_shape(dy, "dy", "[B, T, H]", {B, T, H}, saved.x, "y"));
  else
    array_of_shape(dy, "dy", "[B, H]", {B, H}, saved.x, "y");
  gradients.dh = last(dh, "dh", "h");
  gradients.dc = last(dc, "dc", "c");
  if (saved.return_sequences) return gradients;
  const py::object by_y = last(dy, "dy", "y");  // y is the last h
  gradients.dh = gradients.dh.is_none() ? by_y : py::module_::import("numpy").attr("add")(by_y, gradients.dh);
  return gradients;
}

py::tuple lstm_backward(const py::handle& dy_arg, const py::handle& saved_arg, const py::handle& dh_arg,
                        const py::handle& dc_arg, const py::handle& dx_arg, const py::handle& dw_ih_arg,
                        const py::handle& dw_hh_arg, const py::handle& db_arg) {
  if (!py::isinstance<LstmContext>(saved_arg))
    throw py::type_error("saved must be what lstm_forward returned; got " + type_text(saved_arg));
  const LstmContext& saved = saved_arg.cast<const LstmContext&>();
  const i64 B = saved.B, T = saved.T, I = saved.I, H = saved.H;
  const py::array& x = saved.x;
  const py::object dy = as_array(dy_arg, "dy"), dh = as_array(dh_arg, "dh"), dc = as_array(dc_arg, "dc");
  const OutputGradients gradients = output_gradients(saved, dy, dh, dc);
  const std::initializer_list<NamedArray> inputs = {
      {"dy", dy}, {"dh", dh}, {"dc", dc}, {"x", saved.x}, {"w_ih", saved.w_ih}, {"w_hh", saved.w_hh}, {"c0", saved.c0}};
  const py::object db_view = as_array(db_arg, "db");
  if (!saved.has_bias && !PyBool_Check(db_view.ptr()))
    throw py::type_error("db must be True or False for an LSTM without bias; got " + repr_text(db_view));
  py::object dx = destination(as_array(dx_arg, "dx"), "dx", "[B, T, I]", {B, T, I}, x, inputs);
  py::object dw_ih = destination(as_array(dw_ih_arg, "dw_ih"), "dw_ih", "[4H, I]", {4 * H, I}, x, inputs);
  py::object dw_hh = destination(as_array(dw_hh_arg, "dw_hh"), "dw_hh", "[4H, H]", {4 * H, H}, x, inputs);
  py::object db = saved.has_bias ? destination(db_view, "db", "[4H]", {4 * H}, x, inputs) : py::object(py::none());
  refuse_shared({{"dx", dx}, {"dw_ih", dw_ih}, {"dw_hh", dw_hh}, {"db", db}});
  py::array dh0 = new_array({B, H}, x), dc0 = new_array({B, H}, x), dz = new_array({B, T, kGates * H}, x);

  auto args = common_args<LstmBackwardArgs>(saved);
  args.dy = data_or_null(gradients.dy);
  args.dh = data_or_null(gradients.dh);
  args.dc = data_or_null(gradients.dc);
  args.gates = saved.gates.data();
  args.cells = saved.cells.data();
  args.h_prev = saved.h_prev.data();
  args.dz = dz.mutable_data();
  args.dx = data_of(dx);
  args.dw_ih = data_of(dw_ih);
  args.dw_hh = data_of(dw_hh);
  args.db = data_of(db);
  args.dh0 = dh0.mutable_data();
  args.dc0 = dc0.mutable_data();
  {
    py::gil_scoped_release release;
    cpu::backend().lstm_backward(args);
  }
  const ArrayLibrary& library = saved.library;
  return py::make_tuple(returned_gradient(library, dx_arg, dx), returned_gradient(library, dw_ih_arg, dw_ih),
                        returned_gradient(library, dw_hh_arg, dw_hh), returned_gradient(library, db_arg, db),
                        library.wrap(dh0), library.wrap(dc0));
}

}  // namespace

void register_lstm(py::module_& m) {
  py::class_<LstmContext>(
      m, "LSTMContext",
      "What lstm_forward saves for lstm_backward: x, the weights, the gates, c and h; no mask. Opaque.",
      py::is_final());
  m.def("lstm_forward", &lstm_forward, py::arg("x"), py::arg("w_ih"), py::arg("w_hh"), py::arg("b"), py::arg("h0"),
        py::arg("c0"), py::arg("input_p"), py::arg("recurrent_p"), py::arg("rng"), py::arg("time_constant"),
        py::arg("gate_masks"), py::arg("return_sequences"), py::arg("save"));
  m.def("lstm_backward", &lstm_backward, py::arg("dy"), py::arg("saved"), py::arg("dh"), py::arg("dc"), py::arg("dx"),
        py::arg("dw_ih"), py::arg("dw_hh"), py::arg("db"));
}

}  // namespace fusedrop::bind
