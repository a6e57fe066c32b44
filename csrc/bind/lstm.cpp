// lstm: lstm_forward, lstm_backward, and LSTMContext, which forward returns for backward.
#include <cstring>
#include <string>

#include "arrays/numpy.hpp"
#include "bind/call/destinations.hpp"
#include "bind/call/saved_array.hpp"
#include "bind/options/arguments.hpp"
#include "bind/options/philox.hpp"
#include "bind/register.hpp"
#include "core/params/lstm.hpp"

namespace fusedrop::bind {

using namespace arrays;
namespace {

struct LSTMContext {
  Library library;  // of x
  SavedArray x, w_ih, w_hh, c0;
  Array gates, cells, h_prev;
  i64 B, T, I, H;
  bool has_bias, return_sequences;
  GateMasks input, recurrent;
};

// What an argument must be: its shape, the notation of the shape, and the arguments that determine it.
struct Expected {
  const char *name, *dims;
  Dims shape;
  const char* like_name;
};

Array array_of_shape(const Call& call, const py::handle& value, const Expected& expected, const Array& like) {
  const auto& [name, dims, shape, like_name] = expected;
  Array a = call.like(value, name, like, like_name);
  if (a.shape != shape)
    throw py::value_error(std::string(name) + " must be " + dims + " = " + shape_text(shape) + " to match " +
                          like_name + "; got " + shape_text(a.shape));
  return a;
}

// w_hh [4H, H], whose shape determines H.
Array recurrent_weight(const Call& call, const py::handle& value, const Array& x) {
  Array w = call.like(value, "w_hh", x, "x");
  if (w.rank() != 2 || w.shape[0] != 4 * w.shape[1])
    throw py::value_error("w_hh must be [4H, H], the gates i, f, c, o below each other; got " + shape_text(w.shape));
  return w;
}

// A state [B,H]; zeros for None.
Array state_array(const Call& call, const py::handle& value, const char* name, const LSTMContext& s) {
  if (!value.is_none()) return array_of_shape(call, value, {name, "[B, H]", {s.B, s.H}, "x and w_hh"}, s.x);
  Array zeros = call.empty({s.B, s.H}, s.x.type);
  std::memset(zeros.data, 0, static_cast<std::size_t>(zeros.size() * zeros.item_bytes()));
  return zeros;
}

// The caller's rng, for masks whose rows are b*T + t: its row0 counts sequences. With time_constant the T rows of a
// sequence share one mask row.
py::object sequence_rng(const py::handle& rng, i64 B, i64 T, bool time_constant) {
  const auto* given = instance_of<Philox>(rng);
  if (given == nullptr) return py::reinterpret_borrow<py::object>(rng);  // None, or make_mask's error
  Philox key = *given;
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

Matrix rows_of(const Array& a) {  // [B,T,N] in C order as [B*T,N]
  return {a.data, a.shape[2], 1};
}

// The members that forward's and backward's arguments have in common.
template <class Args>
Args common_args(const LSTMContext& s) {
  Args args{};
  args.dtype = dtype_of(s.x);
  args.B = s.B, args.T = s.T, args.I = s.I, args.H = s.H;
  args.x = rows_of(s.x);
  args.w_ih = matrix(s.w_ih);
  args.w_hh = matrix(s.w_hh);
  args.c0 = s.c0.data;
  args.input = s.input;
  args.recurrent = s.recurrent;
  return args;
}

// The operands that are saved, and the sizes. w_hh comes before w_ih, because it determines H.
void set_operands(const Call& call, const Arguments<3>& operands, LSTMContext& s) {
  const auto& [x_arg, w_ih_arg, w_hh_arg] = operands;
  s.x = call.floating(x_arg, "x");
  if (s.x.type == kBfloat16) throw py::type_error("x must be float32 or float64 in an LSTM; got bfloat16");
  require_rank(s.x, "x", 3, "[B, T, I]");
  s.w_hh = recurrent_weight(call, w_hh_arg, s.x);
  s.B = s.x.shape[0], s.T = s.x.shape[1], s.I = s.x.shape[2], s.H = s.w_hh.shape[1];
  s.w_ih = array_of_shape(call, w_ih_arg, {"w_ih", "[4H, I]", {4 * s.H, s.I}, "x and w_hh"}, s.x);
}

struct LSTMOptions {
  double input_p, recurrent_p;
  bool time_constant, gate_masks, return_sequences;
  py::handle rng;
};

// Runs before any array is viewed, see linear.cpp.
LSTMOptions lstm_options(const Arguments<6>& arguments) {
  const auto& [input_p_arg, recurrent_p_arg, rng, time_constant, gate_masks, return_sequences] = arguments;
  const double input_p = probability(input_p_arg, "input_p"), recurrent_p = probability(recurrent_p_arg, "recurrent_p");
  return {input_p,
          recurrent_p,
          flag(time_constant, "time_constant"),
          gate_masks.is_none() ? recurrent_p != 0 : flag(gate_masks, "gate_masks"),
          flag(return_sequences, "return_sequences"),
          rng};
}

void set_options(const LSTMOptions& options, LSTMContext& s) {
  const auto& [input_p, recurrent_p, time_constant, gate_masks, return_sequences, rng_arg] = options;
  s.return_sequences = return_sequences;
  const i64 masks = gate_masks ? kGates : 1;
  const py::object rng = sequence_rng(rng_arg, s.B, s.T, time_constant);
  s.input = masks_of_gates(make_input_mask(rng, input_p, "input_p", false, s.B * s.T, masks * s.I), gate_masks);
  s.recurrent = masks_of_gates(make_mask(rng, recurrent_p, "recurrent_p", false, s.B * s.T, masks * s.H), gate_masks);
}

py::object lstm_forward(const Arguments<13>& arguments) {
  const auto& [x_arg, w_ih_arg, w_hh_arg, b_arg, h0_arg, c0_arg, input_p, recurrent_p, rng, time_constant, gate_masks,
               return_sequences, save] = arguments;
  LSTMContext s{};
  s.library = Library(x_arg, "x", RunsOn::cpu_only);
  const Call call(s.library);
  const LSTMOptions options = lstm_options({input_p, recurrent_p, rng, time_constant, gate_masks, return_sequences});
  set_operands(call, {x_arg, w_ih_arg, w_hh_arg}, s);
  const Array b = b_arg.is_none() ? Array{} : array_of_shape(call, b_arg, {"b", "[4H]", {4 * s.H}, "w_hh"}, s.x);
  s.has_bias = static_cast<bool>(b);
  const Array h0 = contiguous(state_array(call, h0_arg, "h0", s));
  s.c0 = state_array(call, c0_arg, "c0", s);
  set_options(options, s);
  const Type& type = s.x.type;
  const bool x_is_callers = s.x.contiguous(), c0_is_callers = s.c0.contiguous() && !c0_arg.is_none();
  s.x = contiguous(s.x);
  s.c0 = contiguous(s.c0);
  s.gates = call.empty({kGates, s.B, s.T, s.H}, type);
  s.cells = call.empty({s.B, s.T, s.H}, type);
  s.h_prev = call.empty({s.B, s.T, s.H}, type);
  const Array h = call.empty({s.B, s.H}, type), c = call.empty({s.B, s.H}, type);
  // The last output is an array of its own, because the caller can change it or h in place.
  const Array y = call.empty(s.return_sequences ? Dims{s.B, s.T, s.H} : Dims{s.B, s.H}, type);

  auto args = common_args<LstmForwardArgs>(s);
  if (b) args.b = b.data, args.b_stride = b.strides[0];
  args.h0 = h0.data;
  args.y = s.return_sequences ? y.data : nullptr;
  args.h = h.data;
  args.c = c.data;
  args.gates = s.gates.data;
  args.cells = s.cells.data;
  args.h_prev = s.h_prev.data;
  call.run(kernels::lstm_forward, args, {});
  if (!s.return_sequences) std::memcpy(y.data, h.data, static_cast<std::size_t>(h.size() * h.item_bytes()));
  py::tuple last_state = py::make_tuple(call.wrap(h), call.wrap(c));
  py::object result = call.wrap(y);
  if (save.ptr() != Py_True) return py::make_tuple(std::move(result), std::move(last_state));
  if (x_is_callers) s.x.save(x_arg);
  s.w_ih.save(w_ih_arg);
  s.w_hh.save(w_hh_arg);
  if (c0_is_callers) s.c0.save(c0_arg);
  return py::make_tuple(std::move(result), std::move(last_state), std::move(s));
}

// The gradients by y [B,T,H], where forward returned all of it, and by the last state; in C order, or none.
struct OutputGradients {
  Array dy, dh, dc;
};

// sum += a, element by element; both are [B,H] in C order.
template <class T>
void add_to(const Array& a, const Array& sum) {
  const auto* from = static_cast<const T*>(a.data);
  auto* to = static_cast<T*>(sum.data);
  for (i64 i = 0; i < a.size(); ++i) to[i] = from[i] + to[i];
}

OutputGradients output_gradients(const Call& call, const LSTMContext& s, const Arguments<3>& arguments) {
  const auto& [dy_arg, dh_arg, dc_arg] = arguments;
  const auto last = [&](const py::handle& gradient, const char* name, const char* of) -> Array {
    if (gradient.is_none()) return {};
    return contiguous(array_of_shape(call, gradient, {name, "[B, H]", {s.B, s.H}, of}, s.x));
  };
  OutputGradients gradients;
  if (s.return_sequences)
    gradients.dy = contiguous(array_of_shape(call, dy_arg, {"dy", "[B, T, H]", {s.B, s.T, s.H}, "y"}, s.x));
  else
    array_of_shape(call, dy_arg, {"dy", "[B, H]", {s.B, s.H}, "y"}, s.x);
  gradients.dh = last(dh_arg, "dh", "h");
  gradients.dc = last(dc_arg, "dc", "c");
  if (s.return_sequences) return gradients;
  const Array by_y = last(dy_arg, "dy", "y");  // y is the last h
  if (!gradients.dh) {
    gradients.dh = by_y;
    return gradients;
  }
  const Array sum = call.empty(by_y.shape, by_y.type);
  std::memcpy(sum.data, gradients.dh.data, static_cast<std::size_t>(sum.size() * sum.item_bytes()));
  if (sum.type == kFloat64)
    add_to<double>(by_y, sum);
  else
    add_to<float>(by_y, sum);
  gradients.dh = sum;
  return gradients;
}

py::object lstm_backward(const Arguments<8>& arguments) {
  const auto& [dy_arg, saved_arg, dh_arg, dc_arg, dx_arg, dw_ih_arg, dw_hh_arg, db_arg] = arguments;
  const auto* context = instance_of<LSTMContext>(saved_arg);
  if (context == nullptr) throw py::type_error("saved must be what lstm_forward returned; got " + type_text(saved_arg));
  const LSTMContext& s = *context;
  s.x.require_unchanged("x");
  s.w_ih.require_unchanged("w_ih");
  s.w_hh.require_unchanged("w_hh");
  s.c0.require_unchanged("c0");
  const Call call(s.library);
  const auto [dy, dh, dc] = output_gradients(call, s, {dy_arg, dh_arg, dc_arg});
  Destination dx{dx_arg, "dx", "[B, T, I]", {s.B, s.T, s.I}}, dw_ih{dw_ih_arg, "dw_ih", "[4H, I]", {4 * s.H, s.I}};
  Destination dw_hh{dw_hh_arg, "dw_hh", "[4H, H]", {4 * s.H, s.H}}, db{db_arg, "db", "[4H]", {4 * s.H}};
  if (!s.has_bias) refuse_bias_gradient(db, "an LSTM");
  set_arrays(call, {&dx, &dw_ih, &dw_hh, &db}, s.x.type,
             {{"dy", &dy}, {"dh", &dh}, {"dc", &dc}, {"x", &s.x}, {"w_ih", &s.w_ih}, {"w_hh", &s.w_hh}, {"c0", &s.c0}});
  const Array dh0 = call.empty({s.B, s.H}, s.x.type), dc0 = call.empty({s.B, s.H}, s.x.type);
  const Array dz = call.empty({s.B, s.T, kGates * s.H}, s.x.type);

  auto args = common_args<LstmBackwardArgs>(s);
  args.dy = dy.data;
  args.dh = dh.data;
  args.dc = dc.data;
  args.gates = s.gates.data;
  args.cells = s.cells.data;
  args.h_prev = s.h_prev.data;
  args.dz = dz.data;
  args.dx = dx.array.data;
  args.dw_ih = dw_ih.array.data;
  args.dw_hh = dw_hh.array.data;
  args.db = db.array.data;
  args.dh0 = dh0.data;
  args.dc0 = dc0.data;
  call.run(kernels::lstm_backward, args, {});
  return py::make_tuple(returned_gradient(call, dx), returned_gradient(call, dw_ih), returned_gradient(call, dw_hh),
                        returned_gradient(call, db), call.wrap(dh0), call.wrap(dc0));
}

}  // namespace

void register_lstm(py::module_& m) {
  py::class_<LSTMContext>(
      m, "LSTMContext",
      "What lstm_forward saves for lstm_backward: x, the weights, the gates, c and h; no mask. Opaque.",
      py::is_final());
  forbid_new(m.attr("LSTMContext"));
  def<&lstm_forward>(m, "lstm_forward",
                     {"x", "w_ih", "w_hh", "b", "h0", "c0", "input_p", "recurrent_p", "rng", "time_constant",
                      "gate_masks", "return_sequences", "save"});
  def<&lstm_backward>(m, "lstm_backward", {"dy", "saved", "dh", "dc", "dx", "dw_ih", "dw_hh", "db"});
}

}  // namespace fusedrop::bind
