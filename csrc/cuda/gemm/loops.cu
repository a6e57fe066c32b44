// loops: divides a product into tiles and splits of K, and adds the splits.
#include "cuda/gemm/loops.hpp"

#include "cuda/gemm/epilogue.hpp"
#include "cuda/runtime/launch.hpp"

namespace fusedrop::cuda {
namespace {

// The number of multiprocessors of a nominal GPU, so that results do not depend on the actual one. With fewer tiles
// than a full wave, smaller tiles are used, and K is split into parts of at least kLeastOfK.
constexpr i64 kWave = 132, kLeastOfK = 256, kMostSplits = 16;
constexpr i64 kLargeTile = 128, kSmallTile = 64;

i64 tiles(const Gemm& g, i64 size) { return divide_up(g.M, size) * divide_up(g.N, size); }

bool on_16_bytes(const void* data) { return reinterpret_cast<std::uintptr_t>(data) % 16 == 0; }

void plan(Operand& operand, Dtype dtype) {
  operand.major = operand.k_stride == 1 || operand.row_stride != 1 ? Major::k : Major::row;
  const bool along_k = operand.major == Major::k;
  const i64 stride = along_k ? operand.k_stride : operand.row_stride;
  const i64 line = along_k ? operand.row_stride : operand.k_stride;
  const i32* list = along_k ? operand.ks : operand.rows;
  operand.vector = stride == 1 && list == nullptr && line * element_bytes(dtype) % 16 == 0 && on_16_bytes(operand.data);
}

// Adds the splits in order and applies the epilogue. Each thread has one vec8; a warp has eight rows of a 32-column
// group.
template <class S>
__global__ void sum_splits(const __grid_constant__ Gemm g) {
  const i64 size = g.small ? kSmallTile : kLargeTile;
  const i64 M = round_up(g.M, size), N = round_up(g.N, size);
  const Extent extent = extent_of(g);
  const Mask mask = load_mask_key(g.epilogue.mask);
  const i64 quads = M * (N / kGroup);
  for (i64 quad = (static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x) / kQuad; quad < quads;
       quad += static_cast<i64>(gridDim.x) * blockDim.x / kQuad) {
    const i64 i = quad % M, j = quad / M * kGroup + kVec8 * (threadIdx.x % kQuad);
    const u32 keep = keep_vec8(mask, static_cast<u64>(i), static_cast<u64>(j));
    const int valid = i < extent.M ? valid_in_vec8(j, extent.N) : 0;
    float sum[kVec8] = {};
    // With valid == 0 no tile has written partial sums here.
    for (i64 split = 0; valid > 0 && split < g.splits; ++split) {
      float v[kVec8];
      load_vec8(g.partial + (split * M + i) * N + j, 1, kVec8, true, v);
      #pragma unroll
      for (int e = 0; e < kVec8; ++e) sum[e] += v[e];
    }
    epilogue_vec8<S>(g.epilogue, i, j, valid, keep, sum);
  }
}

}  // namespace

void plan(Gemm& g) {
  plan(g.a, g.dtype);
  plan(g.b, g.dtype);
  g.epilogue.vector =
      g.epilogue.ld * element_bytes(g.dtype) % 16 == 0 && on_16_bytes(g.epilogue.y) && on_16_bytes(g.epilogue.z);
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
  const i64 threads = round_up(g.M, size) * round_up(g.N, size) / kVec8;
  with_element(g.dtype,
               [&](auto s) { launch(&sum_splits<decltype(s)>, {minimum(threads / 256, 4096), 256}, stream, g); });
}

}  // namespace fusedrop::cuda
