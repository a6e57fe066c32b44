// bind_pool: max and average pooling. The caller (pooling_functions.py) has checked kernel_size, stride and padding.
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "bind/arrays.hpp"
#include "bind/dlpack.hpp"
#include "bind/layout.hpp"
#include "bind/register.hpp"
#include "bind/text.hpp"
#include "cpu/dispatch.hpp"

namespace fusedrop::bind {
namespace {

using Pair = std::array<i64, 2>;  // (rows, columns)

// What backward needs of a forward call; for a maximum also its winners' positions.
struct PoolSaved {
  PoolShape shape;
  py::dtype dtype;
  py::object positions;  // None for an average
};

py::array images(const py::handle& value, const char* name, const Layout& layout) {
  py::array a = floating_array(viewed(value, name), name);
  require_rank(a, name, 4, layout.x());
  return a;
}

Images view(const py::array& a, const Layout& layout) {
  return {const_cast<void*>(a.data()), stride(a, 0), stride(a, layout.channel()), stride(a, layout.row()),
          stride(a, layout.col())};
}

// The kernels take any strides but one: where channels are last, they lie side by side.
py::array side_by_side(const py::array& a, const Layout& layout) {
  if (!layout.channels_last || a.shape(3) <= 1 || stride(a, 3) == 1) return a;
  return contiguous(a);
}

// As many windows as fit; with ceil_mode also one that hangs over, if it starts in the image or in the padding before it.
PoolAxis axis(const py::array& x, const Layout& layout, int at, i64 kernel, i64 stride, i64 padding, bool ceil_mode) {
  const i64 in = x.shape(at), room = in + 2 * padding - kernel;
  if (in < 1 || room < 0)
    throw py::value_error("x must be " + std::string(layout.x()) +
                          " with H and W of at least 1, and of kernel_size where 2 * padding is added; got " +
                          shape_text(x) + ", kernel_size " + std::to_string(kernel) + ", padding " +
                          std::to_string(padding));
  i64 out = (room + (ceil_mode ? stride - 1 : 0)) / stride + 1;
  if (ceil_mode && (out - 1) * stride >= in + padding) --out;
  return {in, out, kernel, stride, padding};
}

std::vector<py::ssize_t> dims(const PoolShape& s, i64 rows, i64 cols) {
  if (s.channels_last) return {s.images, rows, cols, s.channels};
  return {s.images, s.channels, rows, cols};
}

int position_bytes(const PoolShape& s) {
  const i64 positions = s.rows.kernel * s.cols.kernel;
  return positions <= 1 << 8 ? 1 : positions <= 1 << 16 ? 2 : 4;
}

py::dtype position_dtype(const PoolShape& s) {
  const int bytes = position_bytes(s);
  return bytes == 1 ? py::dtype::of<std::uint8_t>() : bytes == 2 ? py::dtype::of<u16>() : py::dtype::of<u32>();
}

py::tuple pool_forward(const py::handle& x_in, bool maximum, Pair kernel, Pair stride, Pair padding, bool ceil_mode,
                       bool count_padding, bool channels_last) {
  const Layout layout{channels_last};
  const py::array x = images(x_in, "x", layout);
  PoolShape shape{};
  shape.dtype = dtype_of(x);
  shape.kind = maximum ? PoolKind::max : PoolKind::average;
  shape.channels_last = channels_last;
  shape.count_padding = count_padding;
  shape.images = x.shape(0);
  shape.channels = x.shape(layout.channel());
  shape.rows = axis(x, layout, layout.row(), kernel[0], stride[0], padding[0], ceil_mode);
  shape.cols = axis(x, layout, layout.col(), kernel[1], stride[1], padding[1], ceil_mode);
  const py::array from = side_by_side(x, layout);
  const auto size = dims(shape, shape.rows.out, shape.cols.out);
  const py::array y(x.dtype(), size);
  PoolForwardArgs args{shape, view(from, layout), view(y, layout), {}, position_bytes(shape)};
  py::object positions = py::none();
  if (maximum) {
    const py::array winners(position_dtype(shape), size);
    args.positions = view(winners, layout);
    positions = winners;
  }
  {
    py::gil_scoped_release release;
    cpu::backend().pool_forward(args);
  }
  return py::make_tuple(Library(x_in).wrap(y), PoolSaved{shape, x.dtype(), positions});
}

void require_like_y(const py::array& dy, const PoolSaved& saved) {
  const auto size = dims(saved.shape, saved.shape.rows.out, saved.shape.cols.out);
  if (!dy.dtype().is(saved.dtype) && !dy.dtype().equal(saved.dtype))
    throw py::type_error("dy must be " + py::str(saved.dtype).cast<std::string>() + " to match the output; got " +
                         dtype_text(dy));
  if (!std::equal(size.begin(), size.end(), dy.shape()))
    throw py::value_error("dy must be " + shape_text({size[0], size[1], size[2], size[3]}) +
                          " to match the output; got " + shape_text(dy));
}

py::object pool_backward(const py::handle& dy_in, bool maximum, const py::handle& saved_in) {
  const bool fits =
      py::isinstance<PoolSaved>(saved_in) && (saved_in.cast<const PoolSaved&>().shape.kind == PoolKind::max) == maximum;
  if (!fits)
    throw py::type_error("saved must be what " + std::string(maximum ? "max" : "avg") +
                         "_pool2d_forward returned; got " + type_text(saved_in));
  const PoolSaved& saved = saved_in.cast<const PoolSaved&>();
  const PoolShape& shape = saved.shape;
  const Layout layout{shape.channels_last};
  const py::array dy = images(dy_in, "dy", layout);
  require_like_y(dy, saved);
  const py::array from = side_by_side(dy, layout);
  const py::array dx(saved.dtype, dims(shape, shape.rows.in, shape.cols.in));
  PoolBackwardArgs args{shape, view(from, layout), {}, position_bytes(shape), view(dx, layout)};
  if (maximum) args.positions = view(py::reinterpret_borrow<py::array>(saved.positions), layout);
  {
    py::gil_scoped_release release;
    cpu::backend().pool_backward(args);
  }
  return Library(dy_in).wrap(dx);
}

}  // namespace

void register_pool(py::module_& m) {
  py::class_<PoolSaved>(m, "PoolSaved", py::is_final(), "What a pooling's backward needs: no copy of x.")
      .def_property_readonly(
          "positions",
          [](const PoolSaved& s) { return s.positions.is_none() ? s.positions : s.positions.attr("copy")(); },
          "A copy. Max: each winner's place in its window, kernel row * kernel width + kernel column, in uint8 where "
          "that holds it, else uint16 or uint32. None for an average.");
  m.def("pool_forward", &pool_forward, py::arg("x"), py::arg("maximum"), py::arg("kernel_size"), py::arg("stride"),
        py::arg("padding"), py::arg("ceil_mode"), py::arg("count_include_pad"), py::arg("channels_last"));
  m.def("pool_backward", &pool_backward, py::arg("dy"), py::arg("maximum"), py::arg("saved"));
}

}  // namespace fusedrop::bind
