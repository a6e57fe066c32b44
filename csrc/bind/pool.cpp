// pool: max and average pooling. The caller (functional/pooling.py) has checked kernel_size, stride and padding.
#include <string>

#include "arrays/numpy.hpp"
#include "bind/call/call.hpp"
#include "bind/options/arguments.hpp"
#include "bind/options/layout.hpp"
#include "bind/register.hpp"
#include "core/params/pool.hpp"

namespace fusedrop::bind {
namespace {

// What backward needs of a forward call: for max pooling also the positions of the maxima.
struct PoolContext {
  PoolShape shape;
  Type type;
  Array positions;  // none for an average
};

Array image_array(const Call& call, const py::handle& value, const char* name, const Layout& layout) {
  Array a = call.floating(value, name);
  require_rank(a, name, 4, layout.x());
  return a;
}

Images images_of(const Array& a, const Layout& layout) {
  if (!a) return {};
  return {a.data, a.strides[0], a.strides[layout.channel()], a.strides[layout.row()], a.strides[layout.col()]};
}

// Where channels are last, kernels need them at a stride of 1; all other strides are free.
Array dense_channels(const Array& a, const Layout& layout) {
  if (!layout.channels_last || a.shape[3] <= 1 || a.strides[3] == 1) return a;
  return contiguous(a);
}

struct Windows {  // along one axis
  i64 kernel, stride, padding;
  bool ceil_mode;
};

// An axis has as many windows as fit. ceil_mode adds one that extends beyond the end, if it starts in the image or in
// the padding before it.
PoolAxis pool_axis(const Array& x, const Layout& layout, int axis, const Windows& windows) {
  const auto& [kernel, stride, padding, ceil_mode] = windows;
  const i64 in = x.shape[axis], room = in + 2 * padding - kernel;
  if (in < 1 || room < 0)
    throw py::value_error("x must be " + std::string(layout.x()) +
                          " with H and W of at least 1, and of kernel_size where 2 * padding is added; got " +
                          shape_text(x.shape) + ", kernel_size " + std::to_string(kernel) + ", padding " +
                          std::to_string(padding));
  i64 out = (room + (ceil_mode ? stride - 1 : 0)) / stride + 1;
  if (ceil_mode && (out - 1) * stride >= in + padding) --out;
  return {in, out, kernel, stride, padding};
}

Dims image_shape(const PoolShape& s, i64 rows, i64 cols) {
  return image_shape(Layout{s.channels_last}, {s.images, rows, cols, s.channels});
}

int position_bytes(const PoolShape& s) {
  const i64 positions = s.rows.kernel * s.cols.kernel;
  return positions <= 1 << 8 ? 1 : positions <= 1 << 16 ? 2 : 4;
}

py::object pool_forward(const Arguments<9>& arguments) {
  const auto& [x_arg, maximum, kernel_arg, stride_arg, padding_arg, ceil_mode, count_padding, channels_last, save] =
      arguments;
  const auto is_true = [](const py::handle& value) { return value.ptr() == Py_True; };
  const HeightWidth kernel = pair_from(kernel_arg), stride = pair_from(stride_arg), padding = pair_from(padding_arg);
  const Layout layout{is_true(channels_last)};
  const Library library(x_arg, "x", RunsOn::cpu_only);
  const Call call(library);
  const Array x = image_array(call, x_arg, "x", layout);
  PoolShape shape{};
  shape.dtype = dtype_of(x);
  shape.kind = is_true(maximum) ? PoolKind::max : PoolKind::average;
  shape.channels_last = layout.channels_last;
  shape.count_padding = is_true(count_padding);
  shape.images = x.shape[0];
  shape.channels = x.shape[layout.channel()];
  shape.rows = pool_axis(x, layout, layout.row(), {kernel.first, stride.first, padding.first, is_true(ceil_mode)});
  shape.cols = pool_axis(x, layout, layout.col(), {kernel.second, stride.second, padding.second, is_true(ceil_mode)});
  const Array from = dense_channels(x, layout);
  const Dims size = image_shape(shape, shape.rows.out, shape.cols.out);
  const Array y = call.empty(size, x.type);
  Array positions;
  if (is_true(maximum))
    positions = new_numpy_array(size, {dlpack::kUint, static_cast<std::uint8_t>(8 * position_bytes(shape)), 1});
  const PoolForwardArgs args{shape, images_of(from, layout), images_of(y, layout), images_of(positions, layout),
                             position_bytes(shape)};
  call.run(kernels::pool_forward, args, {});
  py::object result = call.wrap(y);
  if (!is_true(save)) return result;
  return py::make_tuple(std::move(result), PoolContext{shape, x.type, positions});
}

void require_like_y(const Array& dy, const PoolContext& saved) {
  require_type(dy, "dy", saved.type, "the output");
  const Dims size = image_shape(saved.shape, saved.shape.rows.out, saved.shape.cols.out);
  if (dy.shape != size)
    throw py::value_error("dy must be " + shape_text(size) + " to match the output; got " + shape_text(dy.shape));
}

py::object pool_backward(const Arguments<3>& arguments) {
  const auto& [dy_arg, maximum_arg, saved_arg] = arguments;
  const bool maximum = maximum_arg.ptr() == Py_True;
  const auto* saved = instance_of<PoolContext>(saved_arg);
  if (saved == nullptr || (saved->shape.kind == PoolKind::max) != maximum)
    throw py::type_error("saved must be what " + std::string(maximum ? "max" : "avg") +
                         "_pool2d_forward returned; got " + type_text(saved_arg));
  const PoolShape& shape = saved->shape;
  const Layout layout{shape.channels_last};
  const Library library(dy_arg, "dy", RunsOn::cpu_only);
  const Call call(library);
  const Array dy = image_array(call, dy_arg, "dy", layout);
  require_like_y(dy, *saved);
  const Array from = dense_channels(dy, layout);
  const Array dx = call.empty(image_shape(shape, shape.rows.in, shape.cols.in), saved->type);
  const PoolBackwardArgs args{shape, images_of(from, layout), images_of(saved->positions, layout),
                              position_bytes(shape), images_of(dx, layout)};
  call.run(kernels::pool_backward, args, {});
  return call.wrap(dx);
}

}  // namespace

void register_pool(py::module_& m) {
  py::class_<PoolContext>(m, "PoolContext", py::is_final(), "What the backward of a pooling needs: no copy of x.")
      .def_property_readonly(
          "positions",
          [](const PoolContext& s) { return s.positions ? s.positions.owner.attr("copy")() : py::object(py::none()); },
          "A copy. Max: the position of each maximum in its window, kernel row * kernel width + kernel column, in the "
          "smallest of uint8, uint16 and uint32 that holds all positions. None for an average.");
  forbid_new(m.attr("PoolContext"));
  def<&pool_forward>(
      m, "pool_forward",
      {"x", "maximum", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "channels_last", "save"});
  def<&pool_backward>(m, "pool_backward", {"dy", "maximum", "saved"});
}

}  // namespace fusedrop::bind
