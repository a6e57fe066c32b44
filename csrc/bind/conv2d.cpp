// conv2d: conv2d_forward, conv2d_backward, and Conv2dContext, which forward returns for backward.
// The caller (functional/conv2d.py) has checked stride, padding and layout.
#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <tuple>

#include "bind/array/array.hpp"
#include "bind/array/destinations.hpp"
#include "bind/array/dlpack.hpp"
#include "bind/array/layout.hpp"
#include "bind/array/text.hpp"
#include "bind/options/activation.hpp"
#include "bind/options/philox.hpp"
#include "bind/register.hpp"
#include "core/params/conv2d.hpp"
#include "cpu/runtime/dispatch.hpp"

namespace fusedrop::bind {
namespace {

struct Conv2dContext {
  py::array x, w, saved_activation;  // saved_activation: y or z, as `saved_kind` says
  bool has_bias;
  SavedKind saved_kind;
  Activation activation;
  bool dropout_first;
  Layout layout;
  Conv2dSizes sizes;
  Mask mask, input_mask;
  ArrayLibrary library;  // of x
};

// The size of y along an axis of images.
i64 output_size(i64 size, i64 kernel, i64 stride, i64 padding, const char* axis) {
  constexpr i64 kMaxSize = i64{1} << 24;  // so that no number of elements that is computed from sizes overflows
  if (size + 2 * padding > kMaxSize)
    throw py::value_error("the padded image must not be larger than 2**24 along an axis: " + std::string(axis) + " " +
                          std::to_string(size) + " + 2 * " + std::to_string(padding));
  const i64 room = size + 2 * padding - kernel;
  if (room < 0)
    throw py::value_error("w must not be larger than the padded image: " + std::string(axis) + " " +
                          std::to_string(kernel) + " against " + std::to_string(size) + " + 2 * " +
                          std::to_string(padding));
  return room / stride + 1;
}

Conv2dSizes conv2d_sizes(const py::array& x, const py::array& w, const Layout& layout, const HeightWidth& stride,
                         const HeightWidth& padding) {
  Conv2dSizes s{};
  s.B = x.shape(0), s.H = x.shape(layout.row()), s.W = x.shape(layout.col()), s.C = x.shape(layout.channel());
  if (w.ndim() != 4 || w.shape(1) != s.C || w.shape(2) < 1 || w.shape(3) < 1)
    throw py::value_error("w must be [N, C, KH, KW] = " + shape_text({-1, s.C, -1, -1}) + " to match x " +
                          shape_text(x) + " in the order " + layout.x() + "; got " + shape_text(w));
  s.N = w.shape(0), s.KH = w.shape(2), s.KW = w.shape(3);
  std::tie(s.stride_h, s.stride_w) = stride;
  std::tie(s.padding_h, s.padding_w) = padding;
  s.OH = output_size(s.H, s.KH, s.stride_h, s.padding_h, "height");
  s.OW = output_size(s.W, s.KW, s.stride_w, s.padding_w, "width");
  return s;
}

bool is_channel(const py::handle& granularity) {
  if (py::isinstance<py::str>(granularity)) {
    const std::string name = granularity.cast<std::string>();
    if (name == "element" || name == "channel") return name == "channel";
  }
  throw py::value_error("granularity must be 'element' or 'channel'; got " + repr_text(granularity));
}

// The caller's rng, for a mask over images of `plane` pixels. Its row0 counts pixels of y, `y_plane` for each image.
// Where the mask ties the pixels of an image, or lies over x, it must begin at the first pixel of an image.
py::object pixel_rng(const py::handle& rng, double p, bool channel, bool of_x, i64 plane, i64 y_plane) {
  if (!py::isinstance<Philox>(rng)) return py::reinterpret_borrow<py::object>(rng);  // None, or make_mask's error
  if (p == 0) return py::none();
  Philox key = rng.cast<Philox>();
  const u64 y_pixels = static_cast<u64>(y_plane), pixels = static_cast<u64>(plane > 0 ? plane : 1);
  if (channel && (key.repeat != 1 || key.period != 0))
    throw py::value_error("rng must not be tied where granularity is 'channel', which ties the pixels of an image");
  if ((channel || of_x) && key.row0 % y_pixels != 0)
    throw py::value_error(
        "rng.row0 must be a whole number of images where input_p > 0 or granularity is 'channel', a multiple of "
        "OH * OW = " +
        std::to_string(y_pixels) + "; got " + std::to_string(key.row0));
  if (of_x) key.row0 = key.row0 / y_pixels * pixels;
  if (channel) key.repeat = pixels;
  return py::cast(key);
}

template <class Result, class Pointer>
Result image_at(Pointer data, const py::array& a, const Layout& layout) {
  return {data, stride(a, 0), stride(a, layout.row()), stride(a, layout.col()), stride(a, layout.channel())};
}
Image input_image(const py::array& a, const Layout& layout) { return image_at<Image>(a.data(), a, layout); }
OutputImage output_image(py::array& a, const Layout& layout) {
  return image_at<OutputImage>(a.mutable_data(), a, layout);
}
constexpr Layout kWeightLayout{false};  // [N, C, KH, KW] has the order of NCHW

py::object conv2d_forward(const py::handle& x_arg, const py::handle& w_arg, const py::handle& b_arg,
                          const HeightWidth& stride, const HeightWidth& padding, bool channels_last,
                          const py::handle& activation, const py::handle& p_arg, const py::handle& rng,
                          const py::handle& dropout_first, const py::handle& input_p_arg, const py::handle& granularity,
                          bool save) {
  const Layout layout{channels_last};
  const py::array x = floating_array(as_array(x_arg, "x"), "x");
  require_rank(x, "x", 4, layout.x());
  const py::array w = array_like(as_array(w_arg, "w"), "w", x, "x");
  const Conv2dSizes s = conv2d_sizes(x, w, layout, stride, padding);
  Conv2dForwardArgs args{};
  py::array b;
  if (const py::object b_view = as_array(b_arg, "b"); !b_view.is_none()) {
    b = array_like(b_view, "b", x, "x");
    if (b.ndim() != 1 || b.shape(0) != s.N)
      throw py::value_error("b must be [N] = " + shape_text({s.N}) + " to match w " + shape_text(w) + "; got " +
                            shape_text(b));
    args.b = b.data(), args.b_stride = bind::stride(b, 0);
  }
  args.dtype = dtype_of(x);
  args.sizes = s;
  args.x = input_image(x, layout);
  args.w = input_image(w, kWeightLayout);
  args.activation = activation_from(activation);
  args.dropout_first = flag(dropout_first, "dropout_first");
  const bool channel = is_channel(granularity);
  const double p = probability(p_arg, "p"), input_p = probability(input_p_arg, "input_p");
  const i64 plane = s.H * s.W, y_plane = s.OH * s.OW;
  args.mask = make_mask(pixel_rng(rng, p, channel, false, y_plane, y_plane), p, "p", false, s.B * y_plane, s.N);
  args.input_mask = make_input_mask(pixel_rng(rng, input_p, channel, true, plane, y_plane), input_p, "input_p", false,
                                    s.B * plane, s.C);

  py::array y = new_array(image_shape(layout, s.B, s.OH, s.OW, s.N), x);
  args.y = output_image(y, layout);
  Conv2dContext saved{x,
                      w,
                      {},
                      !b_arg.is_none(),
                      saved_kind_for(saved_kind_of(args.activation), false),
                      args.activation,
                      args.dropout_first,
                      layout,
                      s,
                      args.mask,
                      args.input_mask,
                      ArrayLibrary(x_arg)};
  if (saved.saved_kind == SavedKind::output) saved.saved_activation = y;
  if (save && saved.saved_kind == SavedKind::preactivation) {
    saved.saved_activation = new_array(image_shape(layout, s.B, s.OH, s.OW, s.N), x);
    args.z = output_image(saved.saved_activation, layout);
  }
  {
    py::gil_scoped_release release;
    cpu::backend().conv2d_forward(args);
  }
  py::object result = saved.library.wrap(y);
  if (!save) return result;
  return py::make_tuple(std::move(result), std::move(saved));
}

py::tuple conv2d_backward(const py::handle& dy_arg, const py::handle& saved_arg, const py::handle& dx_arg,
                          const py::handle& dw_arg, const py::handle& db_arg) {
  const py::object dy_view = as_array(dy_arg, "dy"), dx_view = as_array(dx_arg, "dx"), dw_view = as_array(dw_arg, "dw");
  const py::object db_view = as_array(db_arg, "db");
  if (!py::isinstance<Conv2dContext>(saved_arg))
    throw py::type_error("saved must be what conv2d_forward returned; got " + type_text(saved_arg));
  const Conv2dContext& saved = saved_arg.cast<const Conv2dContext&>();
  const Conv2dSizes& s = saved.sizes;
  const Layout& layout = saved.layout;
  const py::array dy = array_like(dy_view, "dy", saved.x, "x");
  const Shape y_shape = image_shape(layout, s.B, s.OH, s.OW, s.N), x_shape = image_shape(layout, s.B, s.H, s.W, s.C);
  if (dy.ndim() != 4 || !std::equal(y_shape.begin(), y_shape.end(), dy.shape()))
    throw py::value_error(std::string("dy must be ") + layout.y() + " = " + shape_text(y_shape) + " to match y; got " +
                          shape_text(dy));
  const char* saved_name = saved.saved_kind == SavedKind::output ? "y" : "z";
  const std::initializer_list<NamedArray> inputs = {
      {"dy", dy_view}, {"x", saved.x}, {"w", saved.w}, {saved_name, saved.saved_activation}};
  py::object dx = destination(dx_view, "dx", layout.x(), x_shape, saved.x, inputs);
  py::object dw = destination(dw_view, "dw", "[N, C, KH, KW]", {s.N, s.C, s.KH, s.KW}, saved.x, inputs);
  if (!saved.has_bias && db_view.ptr() != Py_True && db_view.ptr() != Py_False)
    throw py::type_error("db must be True or False for a layer without bias; got " + repr_text(db_view));
  py::object db = saved.has_bias ? destination(db_view, "db", "[N]", {s.N}, saved.x, inputs) : py::object(py::none());
  refuse_shared({{"dx", dx}, {"dw", dw}, {"db", db}});

  Conv2dBackwardArgs args{};
  args.dtype = dtype_of(saved.x);
  args.sizes = s;
  args.dy = input_image(dy, layout);
  args.x = input_image(saved.x, layout);
  args.w = input_image(saved.w, kWeightLayout);
  if (saved.saved_kind != SavedKind::nothing) args.saved_activation = input_image(saved.saved_activation, layout);
  args.saved_kind = saved.saved_kind;
  if (!dx.is_none()) args.dx = output_image(static_cast<py::array&>(dx), layout);
  if (!dw.is_none()) args.dw = output_image(static_cast<py::array&>(dw), kWeightLayout);
  args.db = data_of(db);
  args.activation = saved.activation;
  args.dropout_first = saved.dropout_first;
  args.mask = saved.mask;
  args.input_mask = saved.input_mask;
  {
    py::gil_scoped_release release;
    cpu::backend().conv2d_backward(args);
  }
  return py::make_tuple(returned_gradient(saved.library, dx_arg, dx), returned_gradient(saved.library, dw_arg, dw),
                        returned_gradient(saved.library, db_arg, db));
}

}  // namespace

void register_conv2d(py::module_& m) {
  py::class_<Conv2dContext>(m, "Conv2dContext",
                            "What conv2d_forward saves for conv2d_backward: x, w, and y or z; no mask.", py::is_final())
      .def_readonly("x", &Conv2dContext::x)
      .def_readonly("w", &Conv2dContext::w);
  m.def("conv2d_forward", &conv2d_forward, py::arg("x"), py::arg("w"), py::arg("b"), py::arg("stride"),
        py::arg("padding"), py::arg("channels_last"), py::arg("activation"), py::arg("p"), py::arg("rng"),
        py::arg("dropout_first"), py::arg("input_p"), py::arg("granularity"), py::arg("save"));
  m.def("conv2d_backward", &conv2d_backward, py::arg("dy"), py::arg("saved"), py::arg("dx"), py::arg("dw"),
        py::arg("db"));
}

}  // namespace fusedrop::bind
