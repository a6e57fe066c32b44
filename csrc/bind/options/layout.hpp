// layout: the order of the axes in an array of images.
#pragma once

#include <pybind11/stl.h>

#include <utility>

#include "arrays/array.hpp"

namespace fusedrop::bind {

using namespace arrays;

using HeightWidth = std::pair<i64, i64>;  // the caller, in Python, has checked that it is one
inline HeightWidth pair_from(const py::handle& value) { return value.cast<HeightWidth>(); }

struct Layout {
  bool channels_last;
  const char* x() const { return channels_last ? "[B, H, W, C]" : "[B, C, H, W]"; }
  const char* y() const { return channels_last ? "[B, OH, OW, N]" : "[B, N, OH, OW]"; }
  int row() const { return channels_last ? 1 : 2; }
  int col() const { return channels_last ? 2 : 3; }
  int channel() const { return channels_last ? 3 : 1; }
};

struct ImageSizes {
  i64 images, rows, cols, channels;
};

inline Dims image_shape(const Layout& layout, const ImageSizes& s) {
  return layout.channels_last ? Dims{s.images, s.rows, s.cols, s.channels} : Dims{s.images, s.channels, s.rows, s.cols};
}

}  // namespace fusedrop::bind
