// pool: max and average pooling of images, forward and backward, of one instruction set.
#include "cpu/pool/backward.inl"
#include "cpu/pool/forward.inl"
#include "cpu/runtime/kernels.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

// Costs of an element of x and of an element of y in multiply-adds, for threads_for.
constexpr i64 kWorkPerInput = 4, kWorkPerOutput = 4;

int threads_of(const PoolShape& s) {
  const i64 inputs = s.rows.in * s.cols.in * kWorkPerInput;
  const i64 outputs = s.rows.out * s.cols.out * (kWorkPerOutput + s.rows.kernel + s.cols.kernel);
  return threads_for(s.planes() * (inputs + outputs));
}

// Runs `visit` over all tiles. Rows(args, planes of the largest tile, layout) adds its arrays to the layout of the
// memory of a thread.
template <class Rows, class Args, class Visit>
void run_tiles(const Args& args, Visit visit) {
  using V = Vec<typename Rows::T>;
  const PoolShape& s = args.shape;
  ScratchLayout no_planes, some_planes;  // their difference gives the bytes of one plane
  Rows(args, 0, no_planes);
  Rows(args, kLineLanes, some_planes);
  const int threads = threads_of(s);
  const Tiles tiles(s, s.cols.out + Lanes::reach(s.cols), (some_planes.size() - no_planes.size()) / kLineLanes,
                    threads);
  ScratchLayout layout;
  const Rows rows(args, tiles.planes(), layout);
  char* const* memory = scratch(threads, layout.size());
  parallel_for(threads, [&](int thread) {
    Rows thread_rows = rows;
    thread_rows.bind(memory[thread]);
    i64 pixel = -1, segments = -1;  // the shape of rows for which the memory is prepared
    const i64 count = tiles.count(), end = count * (thread + 1) / threads;
    for (i64 index = count * thread / threads; index < end; ++index) {
      const Tile tile = tiles.tile(index);
      const Lanes lanes(s, tile.planes, V::W);
      if (lanes.pixel != pixel || lanes.segments != segments) thread_rows.prepare(lanes);
      pixel = lanes.pixel, segments = lanes.segments;
      visit(thread_rows, args, tile, lanes);
    }
  });
}

template <class Rows>
void forward(const PoolForwardArgs& args) {
  run_tiles<Rows>(args, forward_tile<Rows>);
}
template <class Rows>
void backward(const PoolBackwardArgs& args) {
  run_tiles<Rows>(args, backward_tile<Rows>);
}

// Calls f with a value of the integer type that stores positions.
template <class F>
FD_FN void with_positions(int bytes, F f) {
  if (bytes == 1) return f(std::uint8_t{});
  if (bytes == 2) return f(u16{});
  f(u32{});
}

}  // namespace

void pool_forward(const PoolForwardArgs& args) {
  with_dtype(args.shape.dtype, [&](auto s) {
    using S = decltype(s);
    if (args.shape.kind == PoolKind::average) return forward<MeanRows<S>>(args);
    with_positions(args.position_bytes, [&](auto p) { forward<MaxRows<S, decltype(p)>>(args); });
  });
}

void pool_backward(const PoolBackwardArgs& args) {
  with_dtype(args.shape.dtype, [&](auto s) {
    using S = decltype(s);
    if (args.shape.kind == PoolKind::average) return backward<MeanGradient<S>>(args);
    with_positions(args.position_bytes, [&](auto p) { backward<MaxGradient<S, decltype(p)>>(args); });
  });
}

}  // namespace fusedrop::cpu::FD_ISA
