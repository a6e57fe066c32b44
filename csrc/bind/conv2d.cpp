// conv2d: conv2d_forward, conv2d_backward, and Conv2dContext, which forward returns for backward.
// The caller (functional/conv2d.py) has checked stride, padding and layout.
#include <string>

#include "bind/call/destinations.hpp"
#include "bind/call/saved_array.hpp"
#include "bind/options/activation.hpp"
#include "bind/options/arguments.hpp"
#include "bind/options/layout.hpp"
#include "bind/options/philox.hpp"
#include "bind/register.hpp"
#include "core/params/conv2d.hpp"

namespace fusedrop::bind {
namespace {

struct Conv2dContext {
  Library library;  // of x
  SavedArray x, w, saved_activation;  // saved_activation: y or z, as `saved_kind` says, or none
  Layout layout;
  Conv2dSizes sizes;
  EpilogueParams epilogue;  // without the bias, which only forward needs
  Mask input_mask;
  bool has_bias;

  const char* saved_name() const { return saved_name_of(epilogue.saved_kind); }
  Dims x_shape() const { return image_shape(layout, {sizes.B, sizes.H, sizes.W, sizes.C}); }
  Dims y_shape() const { return image_shape(layout, {sizes.B, sizes.OH, sizes.OW, sizes.N}); }
};

struct Axis {
  i64 size, kernel, stride, padding;
};

// The size of y along an axis of images.
i64 output_size(const Axis& along, const char* axis) {
  const auto& [size, kernel, stride, padding] = along;
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

Conv2dSizes conv2d_sizes(const Array& x, const Array& w, const Layout& layout, const HeightWidth& stride,
                         const HeightWidth& padding) {
  Conv2dSizes s{};
  s.B = x.shape[0], s.H = x.shape[layout.row()], s.W = x.shape[layout.col()], s.C = x.shape[layout.channel()];
  if (w.rank() != 4 || w.shape[1] != s.C || w.shape[2] < 1 || w.shape[3] < 1)
    throw py::value_error("w must be [N, C, KH, KW] = " + shape_text({-1, s.C, -1, -1}) + " to match x " +
                          shape_text(x.shape) + " in the order " + layout.x() + "; got " + shape_text(w.shape));
  s.N = w.shape[0], s.KH = w.shape[2], s.KW = w.shape[3];
  s.stride_h = stride.first, s.stride_w = stride.second;
  s.padding_h = padding.first, s.padding_w = padding.second;
  s.OH = output_size({s.H, s.KH, s.stride_h, s.padding_h}, "height");
  s.OW = output_size({s.W, s.KW, s.stride_w, s.padding_w}, "width");
  return s;
}

bool is_channel(const py::handle& granularity) {
  if (py::isinstance<py::str>(granularity)) {
    const std::string name = granularity.cast<std::string>();
    if (name == "element" || name == "channel") return name == "channel";
  }
  throw py::value_error("granularity must be 'element' or 'channel'; got " + repr_text(granularity));
}

// A mask over images has one row for each pixel. rng.row0 counts pixels of y, `y_plane` for each image; `plane` is the
// number of pixels of this mask's images. Where the mask ties the pixels of an image, or lies over x, it must begin at
// the first pixel of an image.
struct PixelMask {
  i64 plane, y_plane;
  bool channel, of_x;
};

// The caller's rng for such a mask.
py::object pixel_rng(const py::handle& rng, double p, const PixelMask& mask) {
  const auto* given = instance_of<Philox>(rng);
  if (given == nullptr) return py::reinterpret_borrow<py::object>(rng);  // None, or make_mask's error
  if (p == 0) return py::none();
  Philox key = *given;
  const u64 y_pixels = static_cast<u64>(mask.y_plane), pixels = static_cast<u64>(mask.plane > 0 ? mask.plane : 1);
  if (mask.channel && (key.repeat != 1 || key.period != 0))
    throw py::value_error("rng must not be tied where granularity is 'channel', which ties the pixels of an image");
  if ((mask.channel || mask.of_x) && key.row0 % y_pixels != 0)
    throw py::value_error(
        "rng.row0 must be a whole number of images where input_p > 0 or granularity is 'channel', a multiple of "
        "OH * OW = " +
        std::to_string(y_pixels) + "; got " + std::to_string(key.row0));
  if (mask.of_x) key.row0 = key.row0 / y_pixels * pixels;
  if (mask.channel) key.repeat = pixels;
  return py::cast(key);
}

template <class Result>
Result image_at(const Array& a, const Layout& layout) {
  if (!a) return {};
  return {a.data, a.strides[0], a.strides[layout.row()], a.strides[layout.col()], a.strides[layout.channel()]};
}
Image input_image(const Array& a, const Layout& layout) { return image_at<Image>(a, layout); }
OutputImage output_image(const Array& a, const Layout& layout) { return image_at<OutputImage>(a, layout); }
constexpr Layout kWeightLayout{false};  // [N, C, KH, KW] has the order of NCHW

struct Conv2dOptions {
  Activation activation;
  bool dropout_first, channel;
  double p, input_p;
  py::handle rng;
};

// Runs before any array is viewed, see linear.cpp.
Conv2dOptions conv2d_options(const Arguments<6>& arguments) {
  const auto& [activation, p, rng, dropout_first, input_p, granularity] = arguments;
  return {activation_from(activation), flag(dropout_first, "dropout_first"), is_channel(granularity),
          probability(p, "p"),         probability(input_p, "input_p"),      rng};
}

void set_options(const Conv2dOptions& options, Conv2dContext& c) {
  const Conv2dSizes& s = c.sizes;
  const auto& [activation, dropout_first, channel, p, input_p, rng_arg] = options;
  c.epilogue.activation = activation;
  c.epilogue.dropout_first = dropout_first;
  c.epilogue.saved_kind = saved_kind_for(saved_kind_of(activation), false);
  const i64 plane = s.H * s.W, y_plane = s.OH * s.OW;
  const py::object rng = pixel_rng(rng_arg, p, {y_plane, y_plane, channel, false});
  c.epilogue.mask = make_mask(rng, p, "p", false, s.B * y_plane, s.N);
  const py::object input_rng = pixel_rng(rng_arg, input_p, {plane, y_plane, channel, true});
  c.input_mask = make_input_mask(input_rng, input_p, "input_p", false, s.B * plane, s.C);
}

// The members that forward's and backward's arguments have in common.
template <class Args>
Args common_args(const Conv2dContext& c) {
  Args args{};
  args.dtype = dtype_of(c.x);
  args.sizes = c.sizes;
  args.x = input_image(c.x, c.layout);
  args.w = input_image(c.w, kWeightLayout);
  args.epilogue = c.epilogue;
  args.input_mask = c.input_mask;
  return args;
}

py::object conv2d_forward(const Arguments<13>& arguments) {
  const auto& [x_arg, w_arg, b_arg, stride, padding, channels_last, activation, p, rng, dropout_first, input_p,
               granularity, save] = arguments;
  Conv2dContext c{};
  c.library = Library(x_arg, "x", RunsOn::cpu_only);
  const Call call(c.library);
  c.layout = {channels_last.ptr() == Py_True};
  const Conv2dOptions options = conv2d_options({activation, p, rng, dropout_first, input_p, granularity});
  c.x = call.floating(x_arg, "x");
  require_rank(c.x, "x", 4, c.layout.x());
  c.w = call.like(w_arg, "w", c.x, "x");
  c.sizes = conv2d_sizes(c.x, c.w, c.layout, pair_from(stride), pair_from(padding));
  const Array b = call.bias(b_arg, c.x, c.w);
  c.has_bias = static_cast<bool>(b);
  set_options(options, c);

  auto args = common_args<Conv2dForwardArgs>(c);
  if (b) args.epilogue.b = b.data, args.epilogue.b_stride = b.strides[0];
  const Array y = call.empty(c.y_shape(), c.x.type);
  const bool saves_z = save.ptr() == Py_True && c.epilogue.saved_kind == SavedKind::preactivation;
  const Array z = saves_z ? call.empty(c.y_shape(), c.x.type) : Array{};
  args.y = output_image(y, c.layout);
  args.z = output_image(z, c.layout);
  call.run(kernels::conv2d_forward, args, {});
  if (save.ptr() != Py_True) return call.wrap(y);
  py::object result = call.wrap(y);
  c.x.save(x_arg);
  c.w.save(w_arg);
  c.saved_activation = c.epilogue.saved_kind == SavedKind::output ? y : z;
  return py::make_tuple(std::move(result), std::move(c));
}

py::object conv2d_backward(const Arguments<5>& arguments) {
  const auto& [dy_arg, saved_arg, dx_arg, dw_arg, db_arg] = arguments;
  const auto* context = instance_of<Conv2dContext>(saved_arg);
  if (context == nullptr)
    throw py::type_error("saved must be what conv2d_forward returned; got " + type_text(saved_arg));
  const Conv2dContext& c = *context;
  const Conv2dSizes& s = c.sizes;
  c.x.require_unchanged("x");
  c.w.require_unchanged("w");
  c.saved_activation.require_unchanged(c.saved_name());
  const Call call(c.library);
  const Array dy = call.like(dy_arg, "dy", c.x, "x");
  if (dy.shape != c.y_shape())
    throw py::value_error(std::string("dy must be ") + c.layout.y() + " = " + shape_text(c.y_shape()) +
                          " to match y; got " + shape_text(dy.shape));
  Destination dx{dx_arg, "dx", c.layout.x(), c.x_shape()};
  Destination dw{dw_arg, "dw", "[N, C, KH, KW]", {s.N, s.C, s.KH, s.KW}}, db{db_arg, "db", "[N]", {s.N}};
  if (!c.has_bias) refuse_bias_gradient(db, "a layer");
  set_arrays(call, {&dx, &dw, &db}, c.x.type,
             {{"dy", &dy}, {"x", &c.x}, {"w", &c.w}, {c.saved_name(), &c.saved_activation}});

  auto args = common_args<Conv2dBackwardArgs>(c);
  args.dy = input_image(dy, c.layout);
  args.saved_activation = input_image(c.saved_activation, c.layout);
  args.dx = output_image(dx.array, c.layout);
  args.dw = output_image(dw.array, kWeightLayout);
  args.db = db.array.data;
  call.run(kernels::conv2d_backward, args, {});
  return py::make_tuple(returned_gradient(call, dx), returned_gradient(call, dw), returned_gradient(call, db));
}

}  // namespace

void register_conv2d(py::module_& m) {
  py::class_<Conv2dContext>(m, "Conv2dContext",
                            "What conv2d_forward saves for conv2d_backward: x, w, and y or z; no mask.", py::is_final())
      .def_property_readonly("x", [](const Conv2dContext& c) { return c.x.object; })
      .def_property_readonly("w", [](const Conv2dContext& c) { return c.w.object; });
  forbid_new(m.attr("Conv2dContext"));
  def<&conv2d_forward>(m, "conv2d_forward",
                       {"x", "w", "b", "stride", "padding", "channels_last", "activation", "p", "rng", "dropout_first",
                        "input_p", "granularity", "save"});
  def<&conv2d_backward>(m, "conv2d_backward", {"dy", "saved", "dx", "dw", "db"});
}

}  // namespace fusedrop::bind
