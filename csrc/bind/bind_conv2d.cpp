// bind_conv2d: conv2d_forward, conv2d_backward and Conv2dSaved, what the first leaves for the second. The caller
// (convolution_functions.py) has checked stride, padding and layout.
#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <tuple>

#include "bind/activation_name.hpp"
#include "bind/arrays.hpp"
#include "bind/destinations.hpp"
#include "bind/dlpack.hpp"
#include "bind/layout.hpp"
#include "bind/register.hpp"
#include "bind/rng.hpp"
#include "bind/text.hpp"
#include "core/conv_args.hpp"
#include "cpu/dispatch.hpp"

namespace fusedrop::bind {
namespace {

struct Conv2dSaved {
  py::array x, w, kept;  // kept: y or z as `saved` says
  bool has_bias;
  Saved saved;
  Activation activation;
  bool before;
  Layout layout;
  Conv2dSizes sizes;
  Mask mask, input_mask;
  Library library;  // x's
};

using Pair = std::pair<i64, i64>;  // (height, width)

i64 outputs_along(i64 size, i64 kernel, i64 stride, i64 padding, const char* axis) {
  constexpr i64 kMost = i64{1} << 24;  // so that no number of elements that is computed from sizes overflows
  if (size + 2 * padding > kMost)
    throw py::value_error("the padded image must not be larger than 2**24 along an axis: " + std::string(axis) + " " +
                          std::to_string(size) + " + 2 * " + std::to_string(padding));
  const i64 room = size + 2 * padding - kernel;
  if (room < 0)
    throw py::value_error("w must not be larger than the padded image: " + std::string(axis) + " " +
                          std::to_string(kernel) + " against " + std::to_string(size) + " + 2 * " +
                          std::to_string(padding));
  return room / stride + 1;
}

Conv2dSizes sizes_of(const py::array& x, const py::array& w, const Layout& layout, const Pair& stride,
                     const Pair& padding) {
  Conv2dSizes s{};
  s.B = x.shape(0), s.H = x.shape(layout.row()), s.W = x.shape(layout.col()), s.C = x.shape(layout.channel());
  if (w.ndim() != 4 || w.shape(1) != s.C || w.shape(2) < 1 || w.shape(3) < 1)
    throw py::value_error("w must be [N, C, KH, KW] = " + shape_text({-1, s.C, -1, -1}) + " to match x " +
                          shape_text(x) + " in the order " + layout.x() + "; got " + shape_text(w));
  s.N = w.shape(0), s.KH = w.shape(2), s.KW = w.shape(3);
  std::tie(s.stride_h, s.stride_w) = stride;
  std::tie(s.padding_h, s.padding_w) = padding;
  s.OH = outputs_along(s.H, s.KH, s.stride_h, s.padding_h, "height");
  s.OW = outputs_along(s.W, s.KW, s.stride_w, s.padding_w, "width");
  return s;
}

bool is_channel(const py::handle& granularity) {
  if (py::isinstance<py::str>(granularity)) {
    const std::string name = granularity.cast<std::string>();
    if (name == "element" || name == "channel") return name == "channel";
  }
  throw py::value_error("granularity must be 'element' or 'channel'; got " + repr_text(granularity));
}

// The caller's name of a mask over images of `plane` pixels. Its row0 counts pixels of y, `y_plane` an image: where the mask ties
// an image's pixels, or lies over x, it must begin with an image.
py::object over_pixels(const py::handle& rng, double p, bool channel, bool of_x, i64 plane, i64 y_plane) {
  if (!py::isinstance<Philox>(rng)) return py::reinterpret_borrow<py::object>(rng);  // None, or make_mask's error
  if (p == 0) return py::none();
  Philox name = rng.cast<Philox>();
  const u64 y_pixels = static_cast<u64>(y_plane), pixels = static_cast<u64>(plane > 0 ? plane : 1);
  if (channel && (name.repeat != 1 || name.period != 0))
    throw py::value_error("rng must not be tied where granularity is 'channel', which ties the pixels of an image");
  if ((channel || of_x) && name.row0 % y_pixels != 0)
    throw py::value_error(
        "rng.row0 must be a whole number of images where input_p > 0 or granularity is 'channel', a multiple of "
        "OH * OW = " +
        std::to_string(y_pixels) + "; got " + std::to_string(name.row0));
  if (of_x) name.row0 = name.row0 / y_pixels * pixels;
  if (channel) name.repeat = pixels;
  return py::cast(name);
}

template <class Result, class Pointer>
Result image(Pointer data, const py::array& a, const Layout& layout) {
  return {data, stride(a, 0), stride(a, layout.row()), stride(a, layout.col()), stride(a, layout.channel())};
}
Image input_image(const py::array& a, const Layout& layout) { return image<Image>(a.data(), a, layout); }
OutputImage output_image(py::array& a, const Layout& layout) { return image<OutputImage>(a.mutable_data(), a, layout); }
constexpr Layout kWeight{false};  // [N, C, KH, KW] has the order of NCHW

Shape image_shape(const Layout& layout, i64 B, i64 H, i64 W, i64 C) {
  return layout.channels_last ? Shape{B, H, W, C} : Shape{B, C, H, W};
}

py::object conv2d_forward(const py::handle& x_given, const py::handle& w_given, const py::handle& b_given,
                          const Pair& stride_in, const Pair& padding, bool channels_last, const py::handle& activation,
                          const py::handle& p_in, const py::handle& rng, const py::handle& before,
                          const py::handle& input_p, const py::handle& granularity, bool save) {
  const Layout layout{channels_last};
  const py::array x = floating_array(viewed(x_given, "x"), "x");
  require_rank(x, "x", 4, layout.x());
  const py::array w = array_like(viewed(w_given, "w"), "w", x, "x");
  const Conv2dSizes s = sizes_of(x, w, layout, stride_in, padding);
  Conv2dForwardArgs args{};
  py::array b;
  if (const py::object b_in = viewed(b_given, "b"); !b_in.is_none()) {
    b = array_like(b_in, "b", x, "x");
    if (b.ndim() != 1 || b.shape(0) != s.N)
      throw py::value_error("b must be [N] = " + shape_text({s.N}) + " to match w " + shape_text(w) + "; got " +
                            shape_text(b));
    args.b = b.data(), args.b_stride = stride(b, 0);
  }
  args.dtype = dtype_of(x);
  args.sizes = s;
  args.x = input_image(x, layout);
  args.w = input_image(w, kWeight);
  args.activation = activation_from(activation);
  args.before = flag(before, "dropout_before_activation");
  const bool channel = is_channel(granularity);
  const double p = probability(p_in, "p"), input_rate = probability(input_p, "input_p");
  const i64 plane = s.H * s.W, y_plane = s.OH * s.OW;
  args.mask = make_mask(over_pixels(rng, p, channel, false, y_plane, y_plane), p, "p", false, s.B * y_plane, s.N);
  args.input_mask = make_input_mask(over_pixels(rng, input_rate, channel, true, plane, y_plane), input_rate, "input_p",
                                    false, s.B * plane, s.C);

  py::array y = new_array(image_shape(layout, s.B, s.OH, s.OW, s.N), x);
  args.y = output_image(y, layout);
  Conv2dSaved saved{x,
                    w,
                    {},
                    !b_given.is_none(),
                    saved_for(keeps_of(args.activation), false),
                    args.activation,
                    args.before,
                    layout,
                    s,
                    args.mask,
                    args.input_mask,
                    Library(x_given)};
  if (saved.saved == Saved::output) saved.kept = y;
  if (save && saved.saved == Saved::preactivation) {
    saved.kept = new_array(image_shape(layout, s.B, s.OH, s.OW, s.N), x);
    args.z = output_image(saved.kept, layout);
  }
  {
    py::gil_scoped_release release;
    cpu::backend().conv2d_forward(args);
  }
  py::object result = saved.library.wrap(y);
  if (!save) return result;
  return py::make_tuple(std::move(result), std::move(saved));
}

py::tuple conv2d_backward(const py::handle& dy_given, const py::handle& saved_in, const py::handle& dx_given,
                          const py::handle& dw_given, const py::handle& db_given) {
  const py::object dy_in = viewed(dy_given, "dy"), want_dx = viewed(dx_given, "dx"), want_dw = viewed(dw_given, "dw");
  const py::object want_db = viewed(db_given, "db");
  if (!py::isinstance<Conv2dSaved>(saved_in))
    throw py::type_error("saved must be what conv2d_forward returned; got " + type_text(saved_in));
  const Conv2dSaved& saved = saved_in.cast<const Conv2dSaved&>();
  const Conv2dSizes& s = saved.sizes;
  const Layout& layout = saved.layout;
  const py::array dy = array_like(dy_in, "dy", saved.x, "x");
  const Shape y_shape = image_shape(layout, s.B, s.OH, s.OW, s.N), x_shape = image_shape(layout, s.B, s.H, s.W, s.C);
  if (dy.ndim() != 4 || !std::equal(y_shape.begin(), y_shape.end(), dy.shape()))
    throw py::value_error(std::string("dy must be ") + layout.y() + " = " + shape_text(y_shape) + " to match y; got " +
                          shape_text(dy));
  const char* kept_name = saved.saved == Saved::output ? "y" : "z";
  const std::initializer_list<Named> inputs = {{"dy", dy_in}, {"x", saved.x}, {"w", saved.w}, {kept_name, saved.kept}};
  py::object dx = destination(want_dx, "dx", layout.x(), x_shape, saved.x, inputs);
  py::object dw = destination(want_dw, "dw", "[N, C, KH, KW]", {s.N, s.C, s.KH, s.KW}, saved.x, inputs);
  if (!saved.has_bias && want_db.ptr() != Py_True && want_db.ptr() != Py_False)
    throw py::type_error("db must be True or False for a layer without bias; got " + repr_text(want_db));
  py::object db = saved.has_bias ? destination(want_db, "db", "[N]", {s.N}, saved.x, inputs) : py::object(py::none());
  refuse_shared({{"dx", dx}, {"dw", dw}, {"db", db}});

  Conv2dBackwardArgs args{};
  args.dtype = dtype_of(saved.x);
  args.sizes = s;
  args.dy = input_image(dy, layout);
  args.x = input_image(saved.x, layout);
  args.w = input_image(saved.w, kWeight);
  if (saved.saved != Saved::nothing) args.kept = input_image(saved.kept, layout);
  args.saved = saved.saved;
  if (!dx.is_none()) args.dx = output_image(static_cast<py::array&>(dx), layout);
  if (!dw.is_none()) args.dw = output_image(static_cast<py::array&>(dw), kWeight);
  args.db = data_of(db);
  args.activation = saved.activation;
  args.before = saved.before;
  args.mask = saved.mask;
  args.input_mask = saved.input_mask;
  {
    py::gil_scoped_release release;
    cpu::backend().conv2d_backward(args);
  }
  return py::make_tuple(returned(saved.library, dx_given, dx), returned(saved.library, dw_given, dw),
                        returned(saved.library, db_given, db));
}

}  // namespace

void register_conv2d(py::module_& m) {
  py::class_<Conv2dSaved>(m, "Conv2dSaved", "What conv2d_forward keeps for conv2d_backward: x, w, and y or z; no mask.",
                          py::is_final())
      .def_readonly("x", &Conv2dSaved::x)
      .def_readonly("w", &Conv2dSaved::w);
  m.def("conv2d_forward", &conv2d_forward, py::arg("x"), py::arg("w"), py::arg("b"), py::arg("stride"),
        py::arg("padding"), py::arg("channels_last"), py::arg("activation"), py::arg("p"), py::arg("rng"),
        py::arg("dropout_before_activation"), py::arg("input_p"), py::arg("granularity"), py::arg("save"));
  m.def("conv2d_backward", &conv2d_backward, py::arg("dy"), py::arg("saved"), py::arg("dx"), py::arg("dw"),
        py::arg("db"));
}

}  // namespace fusedrop::bind
