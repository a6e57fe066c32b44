// host_tile: checks the integer arithmetic of csrc/cuda's tiles exhaustively. It prints one line per check; the exit
// status is 1 after the first difference.
#include <cstdio>
#include <cstdlib>
#include <set>
#include <string>
#include <vector>

#include "cuda/gemm/float_tile.hpp"

using namespace fusedrop;
using namespace fusedrop::cuda;

namespace {

void require(bool holds, const std::string& what) {
  if (holds) return;
  std::printf("%s does not hold\n", what.c_str());
  std::exit(1);
}

void passed(const std::string& what) { std::printf("%s: equal\n", what.c_str()); }

// Counts visits of [0, n); requires exactly one visit each.
class Visits {
 public:
  explicit Visits(i64 n, std::string what) : count_(static_cast<std::size_t>(n)), what_(std::move(what)) {}
  void visit(i64 i) {
    require(i >= 0 && i < static_cast<i64>(count_.size()), what_ + ": inside");
    require(++count_[static_cast<std::size_t>(i)] == 1, what_ + ": at most once");
  }
  ~Visits() {
    for (const int count : count_) require(count == 1, what_ + ": each visited");
  }

 private:
  std::vector<int> count_;
  std::string what_;
};

void scheduler() {
  for (i64 m = 1; m < 40; ++m)
    for (i64 n = 1; n < 40; ++n) {
      Visits tiles(m * n, "tile_position");
      for (i64 i = 0; i < m * n; ++i) {
        const Position at = tile_position(i, m, n);
        require(at.m >= 0 && at.m < m && at.n >= 0 && at.n < n, "tile_position inside");
        tiles.visit(at.m * n + at.n);
      }
    }
  const i64 m = (i64{1} << 24) + 3, n = 77;  // more than 2^30 tiles
  for (i64 i = m * n - 1000; i < m * n; ++i) require(tile_position(i, m, n).m < m, "the last tiles are inside");
  passed("scheduler: every tile once");

  for (i64 k_steps = 0; k_steps < 200; ++k_steps)
    for (i64 parts = 1; parts <= 16; ++parts) {
      require(part_begin(k_steps, 0, parts) == 0 && part_begin(k_steps, parts, parts) == k_steps,
              "parts cover the k_steps");
      for (i64 part = 0; part < parts; ++part) {
        const i64 size = part_begin(k_steps, part + 1, parts) - part_begin(k_steps, part, parts);
        require(size == k_steps / parts || size == k_steps / parts + 1, "parts are of one size");
      }
    }
  passed("splits: every step once");

  for (i64 n = 0; n < 300; ++n) {
    i64 sum = 0;
    for (i64 j = 0; j < 320; j += kVec8) sum += valid_in_vec8(j, n);
    require(sum == n, "valid_in_vec8 counts every element");
  }
  passed("tails: every element once");
}

// Eight 16-byte accesses that the hardware makes at once must be in different groups of four banks.
void require_no_conflict(const std::vector<int>& offsets, const std::string& what) {
  std::set<int> groups;
  for (const int offset : offsets) groups.insert(offset / 16 % 8);
  require(groups.size() == offsets.size(), what + ": no bank conflict");
}

template <class Shape, Major major, int rows>
void half_tile_layout(const std::string& name) {
  using Tile = HalfTile<major, rows, Shape::K>;
  {
    Visits places(Tile::Bytes / 16, name + ", offset");
    for (int line = 0; line < Tile::Lines; ++line)
      for (int vec8 = 0; vec8 < Tile::Vec8s; ++vec8) places.visit(Tile::offset({line, vec8}) / 16);
  }
  Visits vec8s(Tile::Lines * Tile::Vec8s, name + ", copied");
  for (int c = 0; c < Tile::Lines * Tile::Vec8s / Shape::Threads; ++c)
    for (int first = 0; first < Shape::Threads; first += 8) {
      std::vector<int> together;
      for (int thread = first; thread < first + 8; ++thread) {
        const Place p = Tile::copied(thread, c, Shape::Threads), p0 = Tile::copied(thread, 0, Shape::Threads);
        vec8s.visit(p.line * Tile::Vec8s + p.vec8);
        require(p.vec8 == p0.vec8 && p.line == p0.line + c * (Shape::Threads / Tile::Vec8s), name + ": lines in step");
        require(Tile::offset(p) == Tile::offset(p0) + c * Tile::copy_bytes(Shape::Threads), name + ": copies in step");
        together.push_back(Tile::offset(p));
      }
      require_no_conflict(together, name + ", copies");
    }
  passed("layout of " + name);
}

// Register i of a fragment, by PTX's table for mma.m16n8k16: lane 4g + q of A holds row g + 8 (i % 2), k = 2q + h + 8
// (i / 2), of B (two fragments) row g + 8 (i / 2), k = 2q + h + 8 (i % 2).
template <class Shape, Major major, int rows, bool is_a>
void fragments(const std::string& name) {
  using Tile = HalfTile<major, rows, Shape::K>;
  struct Code {
    int row, k;
  };
  std::vector<Code> memory(Tile::Bytes / 2);
  for (int line = 0; line < Tile::Lines; ++line)
    for (int x = 0; x < 8 * Tile::Vec8s; ++x)
      memory[static_cast<std::size_t>(Tile::offset({line, x / 8}) / 2 + x % 8)] =
          major == Major::k ? Code{line, x} : Code{x, line};
  for (int row = 0; row < rows; row += 16)
    for (int k = 0; k < Shape::K; k += 16) {
      int at[32];
      for (int lane = 0; lane < 32; ++lane)
        at[lane] = Tile::offset(is_a ? fragment_a<major>(lane, row, k) : fragment_b<major>(lane, row, k));
      for (int i = 0; i < 4; ++i) {
        require_no_conflict(std::vector<int>(at + 8 * i, at + 8 * i + 8), name + ", ldmatrix");
        for (int lane = 0; lane < 32; ++lane)
          for (int h = 0; h < 2; ++h) {
            const int g = lane / 4, q2 = 2 * (lane % 4) + h;
            const int y = major == Major::k ? g : q2, x = major == Major::k ? q2 : g;
            const Code got = memory[static_cast<std::size_t>(at[8 * i + y] / 2 + x)];
            const int down = is_a ? i % 2 : i / 2, along = is_a ? i / 2 : i % 2;
            require(got.row == row + g + 8 * down && got.k == k + q2 + 8 * along, name + ", fragment");
          }
      }
    }
  passed("fragments of " + name);
}

template <class Shape>
void half_tiles(const std::string& name) {
  half_tile_layout<Shape, Major::k, Shape::M>(name + " along k");
  half_tile_layout<Shape, Major::row, Shape::M>(name + " along rows");
  fragments<Shape, Major::k, Shape::M, true>(name + ", A along k");
  fragments<Shape, Major::row, Shape::M, true>(name + ", A along rows");
  fragments<Shape, Major::k, Shape::N, false>(name + ", B along k");
  fragments<Shape, Major::row, Shape::N, false>(name + ", B along rows");
}

template <class Shape, int rows>
void float_tiles(const std::string& name) {
  using Tile = FloatTile<Shape, rows>;
  for (const Major major : {Major::k, Major::row}) {
    Visits elements(rows * Shape::K, name + ", copied");
    for (int thread = 0; thread < Shape::Threads; ++thread)
      for (int c = 0; c < Tile::Copies; ++c) {
        const auto at = Tile::copied(major, thread, c), first = Tile::copied(major, thread, 0);
        const auto offset = Tile::further(major, c);
        elements.visit(at.row * Shape::K + at.k);
        require(at.row == first.row + offset.row && at.k == first.k + offset.k, name + ": copies in step");
        require(Tile::offset(at) < Tile::Bytes, name + ": inside");
      }
  }
  require(Tile::Stride * 4 % 16 == 0, name + ": lines begin at 16 bytes");
  for (int row = 0; row + 8 <= rows; row += 8) {  // a TF32 fragment's 8 rows and 4 of k
    std::set<int> banks;
    for (int lane = 0; lane < 32; ++lane) banks.insert(Tile::offset({row + lane / 4, lane % 4}) / 4 % 32);
    require(banks.size() == 32, name + ", TF32: no bank conflict");
  }
  passed("layout of " + name);
}

template <class Shape>
void epilogue_tiles(const std::string& name) {
  Visits vec8s(Shape::M * Shape::N / kVec8, name + ", epilogue");
  for (int round = 0; round < Shape::Rounds; ++round)
    for (int thread = 0; thread < Shape::Threads; ++thread) {
      const Element e = epilogue_element<Shape>(thread, round), head = epilogue_element<Shape>(thread / 4 * 4, round);
      vec8s.visit((e.row * Shape::N + e.col) / kVec8);
      require(e.row == head.row && e.col == head.col + kVec8 * (thread % 4) && head.col % kGroup == 0,
              name + ": a quad has a group of a row");
    }
  Visits sums(Shape::WarpM * Shape::WarpN * Shape::Warps, name + ", accumulators");
  for (int warp = 0; warp < Shape::Warps; ++warp)
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < Shape::WarpM / 16; ++i)
        for (int j = 0; j < Shape::WarpN / 8; ++j)
          for (int e = 0; e < 4; ++e) {
            const Element at = accumulator(lane, e);
            const int row = warp / Shape::WarpsN * Shape::WarpM + 16 * i + at.row;
            sums.visit(row * Shape::N + warp % Shape::WarpsN * Shape::WarpN + 8 * j + at.col);
          }
  passed("epilogue of " + name);
}

}  // namespace

int main() {
  using HalfLarge = TileShape<128, 128, 32, 64, 64, 4>;
  using HalfSmall = TileShape<64, 64, 32, 32, 32, 4>;
  using FloatLarge = TileShape<128, 128, 16, 64, 32, 3>;
  using FloatSmall = TileShape<64, 64, 16, 32, 16, 3>;
  scheduler();
  half_tiles<HalfLarge>("128x128");
  half_tiles<HalfSmall>("64x64");
  float_tiles<FloatLarge, 128>("128x128 of float32");
  float_tiles<FloatSmall, 64>("64x64 of float32");
  epilogue_tiles<HalfLarge>("128x128");
  epilogue_tiles<HalfSmall>("64x64");
  epilogue_tiles<FloatLarge>("128x128 of float32");
  epilogue_tiles<FloatSmall>("64x64 of float32");
}
