// active_columns: the columns of a matrix that unit dropout and known zeros leave. Lists them on the device, copies
// them next to each other, and writes the outputs that no product computes.
// Numerics  exact but for the product with `scale`
// Limits    n < 2^31 columns, any number of rows; one block makes the list, 4096 columns at a time
#include "cuda/elementwise/vec8_loop.hpp"

namespace fusedrop::cuda {
namespace {

constexpr u32 kListThreads = 512;
constexpr u32 kListWarps = kListThreads / 32;

// Each lane passes one value. Returns the sum over the lanes before this one; `sum` becomes the sum over the warp.
__device__ __forceinline__ u32 exclusive_sum(u32 value, u32& sum) {
  const u32 lane = threadIdx.x % 32;
  u32 exclusive = 0;
  sum = value;
  for (u32 distance = 1; distance < 32; distance *= 2) {
    const u32 others = __shfl_xor_sync(kFullMask, sum, static_cast<int>(distance));
    if ((lane & distance) != 0) exclusive += others;
    sum += others;
  }
  return exclusive;
}

// The same over the block; `sums` has room for one value per warp.
__device__ __forceinline__ u32 exclusive_sum(u32 value, u32& sum, u32* sums) {
  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  u32 warp_sum;
  const u32 exclusive = exclusive_sum(value, warp_sum);
  __syncthreads();  // all threads have read the previous sums
  if (lane == 0) sums[warp] = warp_sum;
  __syncthreads();
  u32 previous_warps = 0;
  sum = 0;
  for (u32 w = 0; w < kListWarps; ++w) {
    if (w == warp) previous_warps = sum;
    sum += sums[w];
  }
  return previous_warps + exclusive;
}

struct ListArgs {  // as in list_columns()
  Mask mask;
  const unsigned char* active;
  i64 n;
  i32* index;
  i32* count;
};

// One block; each thread tests one vec8 of columns per iteration.
__global__ __launch_bounds__(kListThreads, 1) void list_kernel(ListArgs args) {
  u32* sums = reinterpret_cast<u32*>(shared_memory);
  Mask mask = load_mask_key(args.mask);
  if (!mask.unit) mask.threshold = 0;
  u32 listed = 0;
  for (i64 first = 0; first < args.n; first += kListThreads * kVec8) {
    const i64 j = first + threadIdx.x * kVec8;
    u32 keep = keep_vec8(mask, 0, static_cast<u64>(j));
    for (int e = 0; e < kVec8; ++e)  // compared with 0, because a view of bytes as bool may hold more than 0 and 1
      if (j + e >= args.n || (args.active != nullptr && args.active[j + e] == 0)) keep &= ~(1u << e);
    u32 count_here = 0, total;
    for (int e = 0; e < kVec8; ++e) count_here += keep >> e & 1;
    u32 place = listed + exclusive_sum(count_here, total, sums);
    for (int e = 0; e < kVec8; ++e)
      if ((keep >> e & 1) != 0) args.index[place++] = static_cast<i32>(j + e);
    listed += total;
  }
  if (threadIdx.x == 0) *args.count = static_cast<i32>(listed);
}

template <class S>
__global__ __launch_bounds__(kLoopThreads, 4) void copy_kernel(CopyArgs args) {
  const ColumnList columns = args.columns;
  const Mask mask = mask_within(columns, load_mask_key(args.mask));
  const i64 count = count_of(columns, args.N);
  if (count == 0) return;
  const Source<S> x(args.x);
  S* to = static_cast<S*>(args.to);
  const bool store_vectors = moves_as_vectors<S>(to, args.ld, 1);
  for (Vec8Loop at(args.M, count); at.more(); at.next()) {
    const int valid = at.valid();
    float v[kVec8];
    load_columns(x, at.row(), at.j(), columns, valid, v);
    const u32 keep = keep_columns(mask, at.row(), at.j(), columns, valid);
    #pragma unroll
    for (int e = 0; e < kVec8; ++e) v[e] = (keep >> e & 1) != 0 ? v[e] * args.scale : 0.0f;
    store_vec8(to + at.row() * args.ld + at.j(), valid, store_vectors && valid == kVec8, v);
  }
}

struct FillArgs {
  i64 M, N;
  Matrix residual;
  void* y;
  void* z;
  Activation activation;
  bool dropout_first;
};

template <class S>
__global__ __launch_bounds__(kLoopThreads, 4) void fill_kernel(FillArgs args) {
  const S* residual = static_cast<const S*>(args.residual.data);
  S* y = static_cast<S*>(args.y);
  S* z = static_cast<S*>(args.z);
  const bool load_vectors = moves_as_vectors<S>(residual, args.residual.row_stride, args.residual.col_stride);
  const bool y_vectors = moves_as_vectors<S>(y, args.N, 1), z_vectors = moves_as_vectors<S>(z, args.N, 1);
  const float at_zero = with_activation(args.activation, [](auto act) { return decltype(act)::forward(0.0f); });
  const float value = args.dropout_first ? at_zero : 0.0f, zeros[kVec8] = {};
  for (Vec8Loop at(args.M, args.N); at.more(); at.next()) {
    const int valid = at.valid();
    const bool whole = valid == kVec8;
    float v[kVec8] = {};
    if (residual != nullptr)
      load_vec8(residual + at.row() * args.residual.row_stride + at.j() * args.residual.col_stride,
                args.residual.col_stride, valid, load_vectors && whole, v);
    #pragma unroll
    for (int e = 0; e < kVec8; ++e) v[e] += value;
    const i64 place = at.row() * args.N + at.j();
    store_vec8(y + place, valid, y_vectors && whole, v);
    if (z != nullptr) store_vec8(z + place, valid, z_vectors && whole, zeros);
  }
}

}  // namespace

void list_columns(const Mask& mask, const bool* active, i64 n, i32* index, i32* count, Stream stream) {
  const ListArgs args{mask, reinterpret_cast<const unsigned char*>(active), n, index, count};
  launch(list_kernel, {1, kListThreads, kListWarps * sizeof(u32)}, stream, args);
}

void copy_columns(const CopyArgs& args, Stream stream) {
  with_element(args.dtype, [&](auto s) { launch(copy_kernel<decltype(s)>, vec8_grid(args.M, args.N), stream, args); });
}

void fill_dropped(const LinearForwardArgs& args, Stream stream) {
  const FillArgs fill{
      args.M, args.N, args.residual, args.y, args.z, args.epilogue.activation, args.epilogue.dropout_first};
  with_element(args.dtype, [&](auto s) { launch(fill_kernel<decltype(s)>, vec8_grid(args.M, args.N), stream, fill); });
}

}  // namespace fusedrop::cuda
