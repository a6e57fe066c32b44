// pool: max and average pooling. The caller (functional/pooling.py) has checked kernel_size, stride and padding.
#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <vector>

#include "bind/array/array.hpp"
#include "bind/array/dlpack.hpp"
#include "bind/array/layout.hpp"
#include "bind/array/text.hpp"
#include "bind/register.hpp"
#include "cpu/runtime/dispatch.hpp"

namespace fusedrop::bind {
namespace {

// What backward needs of a forward call: for max pooling also the positions of the maxima.
struct PoolContext {
  PoolShape shape;
  py::dtype dtype;
  py::object positions;  // None for an average
};

py::array image_array(const py::handle& value, const char* name, const Layout& layout) {
  py::array a = floating_array(as_array(value, name), name);
  require_rank(a, name, 4, layout.x());
  return a;
}

Images images_of(const py::array& a, const Layout& layout) {
  return {const_cast<void*>(a.data()), stride(a, 0), stride(a, layout.channel()), stride(a, layout.row()),
          stride(a, layout.col())};
}

// Where channels are last, kernels need them at a stride of 1; all other strides are free.
py::array dense_channels(const py::array& a, const Layout& layout) {
  if (!layout.channels_last || a.shape(3) <= 1 || stride(a, 3) == 1) return a;
  return contiguous(a);
}

// An axis has as many windows as fit. ceil_mode adds one that extends beyond the end, if it starts in the image or in
// the padding before it.
PoolAxis pool_axis(const py::array& x, const Layout& layout, int axis, i64 kernel, i64 stride, i64 padding,
                   bool ceil_mode) {
  const i64 in = x.shape(axis), room = in + 2 * padding - kernel;
  if (in < 1 || room < 0)
    throw py::value_error("x must be " + std::string(layout.x()) +
                          " with H and W of at least 1, and of kernel_size where 2 * padding is added; got " +
                          shape_text(x) + ", kernel_size " + std::to_string(kernel) + ", padding " +
                          std::to_string(padding));
  i64 out = (room + (ceil_mode ? stride - 1 : 0)) / stride + 1;
  if (ceil_mode && (out - 1) * stride >= in + padding) --out;
  return {in, out, kernel, stride, padding};
}

Shape image_shape(const PoolShape& s, i64 rows, i64 cols) {
  return image_shape(Layout{s.channels_last}, s.images, rows, cols, s.channels);
}

int position_bytes(const PoolShape& s) {
  const i64 positions = s.rows.kernel * s.cols.kernel;
  return positions <= 1 << 8 ? 1 : positions <= 1 << 16 ? 2 : 4;
}

py::dtype position_dtype(const PoolShape& s) {
  const int bytes = position_bytes(s);
  return bytes == 1 ? py::dtype::of<std::uint8_t>() : bytes == 2 ? py::dtype::of<u16>() : py::dtype::of<u32>();
}

py::object pool_forward(const py::handle& x_arg, bool maximum, HeightWidth kernel, HeightWidth stride,
                        HeightWidth padding, bool ceil_mode, bool count_padding, bool channels_last, bool save) {
  const Layout layout{channels_last};
  const py::array x = image_array(x_arg, "x", layout);
  PoolShape shape{};
  shape.dtype = dtype_of(x);
  shape.kind = maximum ? PoolKind::max : PoolKind::average;
  shape.channels_last = channels_last;
  shape.count_padding = count_padding;
  shape.images = x.shape(0);
  shape.channels = x.shape(layout.channel());
  shape.rows = pool_axis(x, layout, layout.row(), kernel.first, stride.first, padding.first, ceil_mode);
  shape.cols = pool_axis(x, layout, layout.col(), kernel.second, stride.second, padding.second, ceil_mode);
  const py::array from = dense_channels(x, layout);
  const auto size = image_shape(shape, shape.rows.out, shape.cols.out);
  const py::array y(x.dtype(), size);
  PoolForwardArgs args{shape, images_of(from, layout), images_of(y, layout), {}, position_bytes(shape)};
  py::object positions = py::none();
  if (maximum) {
    const py::array array(position_dtype(shape), size);
    args.positions = images_of(array, layout);
    positions = array;
  }
  {
    py::gil_scoped_release release;
    cpu::backend().pool_forward(args);
  }
  py::object result = ArrayLibrary(x_arg).wrap(y);
  if (!save) return result;
  return py::make_tuple(std::move(result), PoolContext{shape, x.dtype(), positions});
}

void require_like_y(const py::array& dy, const PoolContext& saved) {
  const auto size = image_shape(saved.shape, saved.shape.rows.out, saved.shape.cols.out);
  if (!dy.dtype().is(saved.dtype) && !dy.dtype().equal(saved.dtype))
    throw py::type_error("dy must be " + py::str(saved.dtype).cast<std::string>() + " to match the output; got " +
                         dtype_text(dy));
  if (!std::equal(size.begin(), size.end(), dy.shape()))
    throw py::value_error("dy must be " + shape_text({size[0], size[1], size[2], size[3]}) +
                          " to match the output; got " + shape_text(dy));
}

py::object pool_backward(const py::handle& dy_arg, bool maximum, const py::handle& saved_arg) {
  const bool matches = py::isinstance<PoolContext>(saved_arg) &&
                       (saved_arg.cast<const PoolContext&>().shape.kind == PoolKind::max) == maximum;
  if (!matches)
    throw py::type_error("saved must be what " + std::string(maximum ? "max" : "avg") +
                         "_pool2d_forward returned; got " + type_text(saved_arg));
  const PoolContext& saved = saved_arg.cast<const PoolContext&>();
  const PoolShape& shape = saved.shape;
  const Layout layout{shape.channels_last};
  const py::array dy = image_array(dy_arg, "dy", layout);
  require_like_y(dy, saved);
  const py::array from = dense_channels(dy, layout);
  const py::array dx(saved.dtype, image_shape(shape, shape.rows.in, shape.cols.in));
  PoolBackwardArgs args{shape, images_of(from, layout), {}, position_bytes(shape), images_of(dx, layout)};
  if (maximum) args.positions = images_of(py::reinterpret_borrow<py::array>(saved.positions), layout);
  {
    py::gil_scoped_release release;
    cpu::backend().pool_backward(args);
  }
  return ArrayLibrary(dy_arg).wrap(dx);
}

}  // namespace

void register_pool(py::module_& m) {
  py::class_<PoolContext>(m, "PoolContext", py::is_final(), "What the backward of a pooling needs: no copy of x.")
      .def_property_readonly(
          "positions",
          [](const PoolContext& s) { return s.positions.is_none() ? s.positions : s.positions.attr("copy")(); },
          "A copy. Max: the position of each maximum in its window, kernel row * kernel width + kernel column, in the "
          "smallest of uint8, uint16 and uint32 that holds all positions. None for an average.");
  m.def("pool_forward", &pool_forward, py::arg("x"), py::arg("maximum"), py::arg("kernel_size"), py::arg("stride"),
        py::arg("padding"), py::arg("ceil_mode"), py::arg("count_include_pad"), py::arg("channels_last"),
        py::arg("save"));
  m.def("pool_backward", &pool_backward, py::arg("dy"), py::arg("maximum"), py::arg("saved"));
}

}  // namespace fusedrop::bind
