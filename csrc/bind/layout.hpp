// layout: where an array of images has its axes.
#pragma once

namespace fusedrop::bind {

struct Layout {
  bool channels_last;
  const char* x() const { return channels_last ? "[B, H, W, C]" : "[B, C, H, W]"; }
  const char* y() const { return channels_last ? "[B, OH, OW, N]" : "[B, N, OH, OW]"; }
  int row() const { return channels_last ? 1 : 2; }
  int col() const { return channels_last ? 2 : 3; }
  int channel() const { return channels_last ? 3 : 1; }
};

}  // namespace fusedrop::bind
