// gemm: how a product is cut into tiles and splits, and the sum of the splits.
#include "cuda/gemm.hpp"

#include "cuda/finish.hpp"
#include "cuda/launch.hpp"

namespace fusedrop::cuda {
namespace {

// Of a nominal GPU, so that results do not depend on the one at hand: tiles below a full wave are worth making smaller, or
// splitting K for, into parts of at least 256.
constexpr i64 kWave = 132, kLeastOfK = 256, kMostSplits = 16;
constexpr i64 kLargeTile = 128, kSmallTile = 64;

i64 tiles(const Gemm& g, i64 size) { return divide_up(g.M, size) * divide_up(g.N, size); }

bool on_16_bytes(const void* data) { return reinterpret_cast<std::uintptr_t>(data) % 16 == 0; }

void arrange(Operand& operand, Dtype dtype) {
  operand.major = operand.k_stride == 1 || operand.row_stride != 1 ? Major::k : Major::row;
  const bool along_k = operand.major == Major::k;
  const i64 step = along_k ? operand.k_stride : operand.row_stride;
  const i64 line = along_k ? operand.row_stride : operand.k_stride;
  const i32* list = along_k ? operand.ks : operand.rows;
  operand.vector = step == 1 && list == nullptr && line * element_bytes(dtype) % 16 == 0 && on_16_bytes(operand.data);
}

// Adds the splits in order and finishes: an octet a thread, a warp with eight rows of a 32-column group.
template <class S>
FD_KERNEL void sum_splits(const FD_PARAMETER Gemm g) {
  const i64 size = g.small ? kSmallTile : kLargeTile;
  const i64 M = round_up(g.M, size), N = round_up(g.N, size);
  const Extent extent = extent_of(g);
  const Mask mask = named(g.finish.mask);
  const i64 quads = M * (N / kGroup);
  for (i64 quad = (static_cast<i64>(block_index()) * block_size() + thread_index()) / kQuad; quad < quads;
       quad += static_cast<i64>(grid_size()) * block_size() / kQuad) {
    const i64 i = quad % M, j = quad / M * kGroup + kOctet * (thread_index() % kQuad);
    const u32 keep = keep_octet(mask, static_cast<u64>(i), static_cast<u64>(j));
    const int valid = i < extent.M ? valid_of_octet(j, extent.N) : 0;
    float sum[kOctet] = {};
    for (i64 split = 0; valid > 0 && split < g.splits; ++split) {  // no tile has written where nothing is valid
      float v[kOctet];
      load_octet(g.partial + (split * M + i) * N + j, 1, kOctet, true, v);
      FD_UNROLL
      for (int e = 0; e < kOctet; ++e) sum[e] += v[e];
    }
    finish_octet<S>(g.finish, i, j, valid, keep, sum);
  }
}

}  // namespace

void arrange(Gemm& g) {
  arrange(g.a, g.dtype);
  arrange(g.b, g.dtype);
  g.finish.vector =
      g.finish.ld * element_bytes(g.dtype) % 16 == 0 && on_16_bytes(g.finish.y) && on_16_bytes(g.finish.z);
  g.small = tiles(g, kLargeTile) < kWave;
  const i64 count = tiles(g, g.small ? kSmallTile : kLargeTile);
  g.splits = 1;
  while (g.splits < kMostSplits && count * g.splits * 2 <= kWave * 2 && g.K / (g.splits * 2) >= kLeastOfK)
    g.splits *= 2;
}

i64 partial_floats(const Gemm& g) {
  const i64 size = g.small ? kSmallTile : kLargeTile;
  return g.splits == 1 ? 0 : g.splits * round_up(g.M, size) * round_up(g.N, size);
}

void multiply(const Gemm& g, Stream stream) {
  if (g.M == 0 || g.N == 0) return;
  if (g.dtype == Dtype::float32)
    multiply_float(g, stream);
  else
    multiply_half(g, stream);
  if (g.splits == 1) return;
  const i64 size = g.small ? kSmallTile : kLargeTile;
  const i64 threads = round_up(g.M, size) * round_up(g.N, size) / kOctet;
  with_element(g.dtype,
               [&](auto s) { launch(&sum_splits<decltype(s)>, {minimum(threads / 256, 4096), 256}, stream, g); });
}

}  // namespace fusedrop::cuda
