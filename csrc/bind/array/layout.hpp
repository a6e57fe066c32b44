// layout: the order of the axes in an array of images.
#pragma once

#include <utility>

#include "bind/array/array.hpp"

namespace fusedrop::bind {

using HeightWidth = std::pair<i64, i64>;

struct Layout {
  bool channels_last;
  const char* x() const { return channels_last ? "[B, H, W, C]" : "[B, C, H, W]"; }
  const char* y() const { return channels_last ? "[B, OH, OW, N]" : "[B, N, OH, OW]"; }
  int row() const { return channels_last ? 1 : 2; }
  int col() const { return channels_last ? 2 : 3; }
  int channel() const { return channels_last ? 3 : 1; }
};

inline Shape image_shape(const Layout& layout, i64 images, i64 rows, i64 cols, i64 channels) {
  return layout.channels_last ? Shape{images, rows, cols, channels} : Shape{images, channels, rows, cols};
}

}  // namespace fusedrop::bind
