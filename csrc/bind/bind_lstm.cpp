// bind_lstm: lstm_forward, lstm_backward and LSTMSaved, what the first leaves for the second.
#include <cstring>
#include <string>

#include "bind/arrays.hpp"
#include "bind/destinations.hpp"
#include "bind/dlpack.hpp"
#include "bind/register.hpp"
#include "bind/rng.hpp"
#include "bind/text.hpp"
#include "cpu/dispatch.hpp"

namespace fusedrop::bind {
namespace {

struct LstmSaved {
  py::array x, w_ih, w_hh, c0;
  py::array gates, cells, h_before;
  i64 B, T, I, H;
  bool has_bias, sequences;
  GateMasks input, recurrent;
  Library library;  // x's
};

py::array float_array(const py::handle& value, const char* name) {
  const py::array a = floating_array(value, name);
  if (dtype_of(a) == Dtype::bfloat16)
    throw py::type_error(std::string(name) + " must be float32 or float64 in an LSTM; got bfloat16");
  return a;
}

// An array of this dtype and shape; `letters` names the dimensions.
py::array shaped(const py::handle& value, const char* name, const char* letters,
                 std::initializer_list<py::ssize_t> shape, const py::array& like, const char* like_name) {
  const py::array a = array_like(value, name, like, like_name);
  bool same = a.ndim() == static_cast<py::ssize_t>(shape.size());
  py::ssize_t axis = 0;
  for (const py::ssize_t size : shape) same = same && a.shape(axis++) == size;
  if (!same)
    throw py::value_error(std::string(name) + " must be " + letters + " = " + shape_text(shape) + " to match " +
                          like_name + "; got " + shape_text(a));
  return a;
}

const void* data_or_null(const py::object& a) {
  return a.is_none() ? nullptr : py::reinterpret_borrow<py::array>(a).data();
}

// The recurrent weight settles H: [4H, H].
py::array recurrent_weight(const py::handle& value, const py::array& x) {
  const py::array w = array_like(value, "w_hh", x, "x");
  if (w.ndim() != 2 || w.shape(0) != 4 * w.shape(1))
    throw py::value_error("w_hh must be [4H, H], the gates i, f, c, o below each other; got " + shape_text(w));
  return w;
}

// A state [B,H] in C order; zeros for None.
py::array state(const py::handle& value, const char* name, i64 B, i64 H, const py::array& x) {
  if (value.is_none()) {
    py::array zeros = new_array({B, H}, x);
    std::memset(zeros.mutable_data(), 0, static_cast<std::size_t>(zeros.nbytes()));
    return zeros;
  }
  return contiguous(shaped(value, name, "[B, H]", {B, H}, x, "x and w_hh"));
}

// The caller's name of the masks, for rows b*T + t: its row0 counts sequences, and a constant mask's row is the sequence.
py::object sequence_rng(const py::handle& rng, i64 B, i64 T, bool time_constant) {
  if (!py::isinstance<Philox>(rng)) return py::reinterpret_borrow<py::object>(rng);  // None, or make_mask's error
  Philox name = rng.cast<Philox>();
  if (name.repeat != 1 || name.period != 0 || name.col0 != 0)
    throw py::value_error(
        "rng must have repeat 1, period None and col0 0 for an LSTM, whose time_constant says what is repeated; got " +
        repr_text(rng));
  const u64 steps = static_cast<u64>(T > 0 ? T : 1), most = kMaxRows / (time_constant ? 1 : steps);
  if (name.row0 + static_cast<u64>(B) > most)
    throw py::value_error("rng.row0 + B must not exceed " + std::to_string(most) +
                          " sequences of the mask; got row0 = " + std::to_string(name.row0) +
                          ", B = " + std::to_string(B));
  name.row0 *= steps;
  if (time_constant) name.repeat = steps;
  return py::cast(name);
}

GateMasks gate_masks(const Mask& mask, bool by_gate) { return {mask, by_gate && mask.threshold != 0}; }

Matrix rows_of(const py::array& a) {  // [B,T,N] in C order as [B*T,N]
  return {a.data(), a.shape(2), 1};
}

// What both directions tell the kernel alike.
template <class Args>
Args args_of(const LstmSaved& saved) {
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

// A forward call's arrays and options, all checked; nothing but zeros for missing states has been made.
struct ForwardCall {
  LstmSaved saved;
  py::object b;
  py::array h0;
};

ForwardCall checked(const py::handle& x_given, const py::handle& w_ih_given, const py::handle& w_hh_given,
                    const py::handle& b_given, const py::handle& h0_given, const py::handle& c0_given,
                    const py::handle& input_p, const py::handle& recurrent_p, const py::handle& rng_given,
                    const py::handle& time_constant, const py::handle& by_gate, const py::handle& sequences) {
  const py::array x = float_array(viewed(x_given, "x"), "x");
  require_rank(x, "x", 3, "[B, T, I]");
  const py::array w_hh = recurrent_weight(viewed(w_hh_given, "w_hh"), x);
  const i64 B = x.shape(0), T = x.shape(1), I = x.shape(2), H = w_hh.shape(1);
  const py::array w_ih = shaped(viewed(w_ih_given, "w_ih"), "w_ih", "[4H, I]", {4 * H, I}, x, "x and w_hh");
  py::object b = viewed(b_given, "b");
  if (!b.is_none()) b = shaped(b, "b", "[4H]", {4 * H}, x, "w_hh");
  const py::array h0 = state(viewed(h0_given, "h0"), "h0", B, H, x), c0 = state(viewed(c0_given, "c0"), "c0", B, H, x);
  const double input_rate = probability(input_p, "input_p"), rate = probability(recurrent_p, "recurrent_p");
  const bool constant = flag(time_constant, "time_constant");
  const bool apart = by_gate.is_none() ? rate != 0 : flag(by_gate, "gate_masks");
  const bool all_steps = flag(sequences, "return_sequences");
  const i64 masks = apart ? kGates : 1;
  const py::object rng = sequence_rng(rng_given, B, T, constant);
  const Mask of_x = make_input_mask(rng, input_rate, "input_p", false, B * T, masks * I);
  const Mask of_h = make_mask(rng, rate, "recurrent_p", false, B * T, masks * H);
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
           all_steps,
           gate_masks(of_x, apart),
           gate_masks(of_h, apart),
           Library(x_given)},
          b,
          h0};
}

py::tuple lstm_forward(const py::handle& x, const py::handle& w_ih, const py::handle& w_hh, const py::handle& b_given,
                       const py::handle& h0_given, const py::handle& c0, const py::handle& input_p,
                       const py::handle& recurrent_p, const py::handle& rng, const py::handle& time_constant,
                       const py::handle& by_gate, const py::handle& sequences) {
  auto [saved, b, h0] =
      checked(x, w_ih, w_hh, b_given, h0_given, c0, input_p, recurrent_p, rng, time_constant, by_gate, sequences);
  const i64 B = saved.B, T = saved.T, H = saved.H;
  saved.gates = new_array({kGates, B, T, H}, saved.x);
  saved.cells = new_array({B, T, H}, saved.x);
  saved.h_before = new_array({B, T, H}, saved.x);
  py::array h = new_array({B, H}, saved.x), c = new_array({B, H}, saved.x);
  py::array y = saved.sequences ? new_array({B, T, H}, saved.x) : py::array();

  auto args = args_of<LstmForwardArgs>(saved);
  args.b = data_or_null(b);
  if (saved.has_bias) args.b_stride = stride(py::reinterpret_borrow<py::array>(b), 0);
  args.h0 = h0.data();
  args.y = saved.sequences ? y.mutable_data() : nullptr;
  args.h = h.mutable_data();
  args.c = c.mutable_data();
  args.gates = saved.gates.mutable_data();
  args.cells = saved.cells.mutable_data();
  args.h_before = saved.h_before.mutable_data();
  {
    py::gil_scoped_release release;
    cpu::backend().lstm_forward(args);
  }
  if (!saved.sequences) y = h.attr("copy")().cast<py::array>();  // the caller may change one, keep the other
  const Library library = saved.library;
  return py::make_tuple(library.wrap(y), py::make_tuple(library.wrap(h), library.wrap(c)), std::move(saved));
}

// The gradients by y [B,T,H], where y is that, and by the last state; in C order, or None.
struct OutputGradients {
  py::object dy, dh, dc;
};

OutputGradients output_gradients(const LstmSaved& saved, const py::object& dy, const py::object& dh,
                                 const py::object& dc) {
  const i64 B = saved.B, T = saved.T, H = saved.H;
  const auto last = [&](const py::object& given, const char* name, const char* of) -> py::object {
    if (given.is_none()) return py::none();
    return contiguous(shaped(given, name, "[B, H]", {B, H}, saved.x, of));
  };
  OutputGradients checked{py::none(), {}, {}};
  if (saved.sequences)
    checked.dy = contiguous(shaped(dy, "dy", "[B, T, H]", {B, T, H}, saved.x, "y"));
  else
    shaped(dy, "dy", "[B, H]", {B, H}, saved.x, "y");
  checked.dh = last(dh, "dh", "h");
  checked.dc = last(dc, "dc", "c");
  if (saved.sequences) return checked;
  const py::object by_y = last(dy, "dy", "y");  // y is the last h
  checked.dh = checked.dh.is_none() ? by_y : py::module_::import("numpy").attr("add")(by_y, checked.dh);
  return checked;
}

py::tuple lstm_backward(const py::handle& dy_given, const py::handle& saved_in, const py::handle& dh_given,
                        const py::handle& dc_given, const py::handle& dx_given, const py::handle& dw_ih_given,
                        const py::handle& dw_hh_given, const py::handle& db_given) {
  if (!py::isinstance<LstmSaved>(saved_in))
    throw py::type_error("saved must be what lstm_forward returned; got " + type_text(saved_in));
  const LstmSaved& saved = saved_in.cast<const LstmSaved&>();
  const i64 B = saved.B, T = saved.T, I = saved.I, H = saved.H;
  const py::array& x = saved.x;
  const py::object dy = viewed(dy_given, "dy"), dh = viewed(dh_given, "dh"), dc = viewed(dc_given, "dc");
  const OutputGradients by = output_gradients(saved, dy, dh, dc);
  const std::initializer_list<Named> inputs = {
      {"dy", dy}, {"dh", dh}, {"dc", dc}, {"x", saved.x}, {"w_ih", saved.w_ih}, {"w_hh", saved.w_hh}, {"c0", saved.c0}};
  const py::object db_wanted = viewed(db_given, "db");
  if (!saved.has_bias && !PyBool_Check(db_wanted.ptr()))
    throw py::type_error("db must be True or False for an LSTM without bias; got " + repr_text(db_wanted));
  py::object dx = destination(viewed(dx_given, "dx"), "dx", "[B, T, I]", {B, T, I}, x, inputs);
  py::object dw_ih = destination(viewed(dw_ih_given, "dw_ih"), "dw_ih", "[4H, I]", {4 * H, I}, x, inputs);
  py::object dw_hh = destination(viewed(dw_hh_given, "dw_hh"), "dw_hh", "[4H, H]", {4 * H, H}, x, inputs);
  py::object db = saved.has_bias ? destination(db_wanted, "db", "[4H]", {4 * H}, x, inputs) : py::object(py::none());
  refuse_shared({{"dx", dx}, {"dw_ih", dw_ih}, {"dw_hh", dw_hh}, {"db", db}});
  py::array dh0 = new_array({B, H}, x), dc0 = new_array({B, H}, x), dz = new_array({B, T, kGates * H}, x);

  auto args = args_of<LstmBackwardArgs>(saved);
  args.dy = data_or_null(by.dy);
  args.dh = data_or_null(by.dh);
  args.dc = data_or_null(by.dc);
  args.gates = saved.gates.data();
  args.cells = saved.cells.data();
  args.h_before = saved.h_before.data();
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
  const Library& library = saved.library;
  return py::make_tuple(returned(library, dx_given, dx), returned(library, dw_ih_given, dw_ih),
                        returned(library, dw_hh_given, dw_hh), returned(library, db_given, db), library.wrap(dh0),
                        library.wrap(dc0));
}

}  // namespace

void register_lstm(py::module_& m) {
  py::class_<LstmSaved>(
      m, "LSTMSaved", "What lstm_forward keeps for lstm_backward: x, the weights, the gates, c and h; no mask. Opaque.",
      py::is_final());
  m.def("lstm_forward", &lstm_forward, py::arg("x"), py::arg("w_ih"), py::arg("w_hh"), py::arg("b"), py::arg("h0"),
        py::arg("c0"), py::arg("input_p"), py::arg("recurrent_p"), py::arg("rng"), py::arg("time_constant"),
        py::arg("gate_masks"), py::arg("return_sequences"));
  m.def("lstm_backward", &lstm_backward, py::arg("dy"), py::arg("saved"), py::arg("dh"), py::arg("dc"), py::arg("dx"),
        py::arg("dw_ih"), py::arg("dw_hh"), py::arg("db"));
}

}  // namespace fusedrop::bind
