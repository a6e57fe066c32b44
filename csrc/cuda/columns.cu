// columns: what unit dropout and known zeros leave of a matrix: the list of columns, found on the device, a copy of them
// side by side, and what is written where no product reaches.
// Numerics  exact but for the product with `scale`
// Limits    n < 2^31 columns, any number of rows; the list is made by one block, 4096 columns at a time
#include "cuda/octets.hpp"

namespace fusedrop::cuda {
namespace {

constexpr u32 kListThreads = 512;
constexpr u32 kListWarps = kListThreads / 32;

// Of one value a lane: the sum of the lanes before this one; `sum` becomes that of the whole warp.
FD_DEVICE u32 sum_before(u32 value, u32& sum) {
  const u32 lane = thread_index() % 32;
  u32 before = 0;
  sum = value;
  for (u32 distance = 1; distance < 32; distance *= 2) {
    const u32 others = shuffle_xor(sum, static_cast<int>(distance));
    if ((lane & distance) != 0) before += others;
    sum += others;
  }
  return before;
}

// The same over the block; `sums` has room for a value a warp.
FD_DEVICE u32 sum_before(u32 value, u32& sum, u32* sums) {
  const u32 lane = thread_index() % 32, warp = thread_index() / 32;
  u32 of_warp;
  const u32 before = sum_before(value, of_warp);
  sync_threads();  // nobody reads the former sums any more
  if (lane == 0) sums[warp] = of_warp;
  sync_threads();
  u32 warps_before = 0;
  sum = 0;
  for (u32 w = 0; w < kListWarps; ++w) {
    if (w == warp) warps_before = sum;
    sum += sums[w];
  }
  return warps_before + before;
}

// One block, a thread an octet.
FD_KERNEL FD_BOUNDS(kListThreads, 1) void list_kernel(Mask given, const unsigned char* known, i64 n, i32* index,
                                                      i32* count) {
  u32* sums = reinterpret_cast<u32*>(shared_memory());
  Mask mask = named(given);
  if (!mask.unit) mask.threshold = 0;
  u32 listed = 0;
  for (i64 first = 0; first < n; first += kListThreads * kOctet) {
    const i64 j = first + thread_index() * kOctet;
    u32 keep = keep_octet(mask, 0, static_cast<u64>(j));
    for (int e = 0; e < kOctet; ++e)  // a view of bytes as bool may hold more than 0 and 1
      if (j + e >= n || (known != nullptr && known[j + e] == 0)) keep &= ~(1u << e);
    u32 mine = 0, all;
    for (int e = 0; e < kOctet; ++e) mine += keep >> e & 1;
    u32 place = listed + sum_before(mine, all, sums);
    for (int e = 0; e < kOctet; ++e)
      if ((keep >> e & 1) != 0) index[place++] = static_cast<i32>(j + e);
    listed += all;
  }
  if (thread_index() == 0) *count = static_cast<i32>(listed);
}

template <class S>
FD_KERNEL FD_BOUNDS(kWalkThreads, 4) void copy_kernel(CopyArgs args) {
  const Columns columns = args.columns;
  const Mask mask = mask_within(columns, named(args.mask));
  const i64 count = count_of(columns, args.N);
  if (count == 0) return;
  const S* x = static_cast<const S*>(args.x.data);
  S* to = static_cast<S*>(args.to);
  const bool load_vectors = moves_as_vectors<S>(x, args.x.row_stride, args.x.col_stride);
  const bool store_vectors = moves_as_vectors<S>(to, args.ld, 1);
  for (OctetWalk at(args.M, count); at.more(); at.next()) {
    const int valid = at.valid();
    float v[kOctet];
    load_columns(x + at.row() * args.x.row_stride, args.x.col_stride, at.j(), columns, valid, load_vectors, v);
    const u32 keep = keep_columns(mask, at.row(), at.j(), columns, valid);
    FD_UNROLL
    for (int e = 0; e < kOctet; ++e) v[e] = (keep >> e & 1) != 0 ? v[e] * args.scale : 0.0f;
    store_octet(to + at.row() * args.ld + at.j(), valid, store_vectors && valid == kOctet, v);
  }
}

struct FillArgs {
  i64 M, N;
  Matrix residual;
  void* y;
  void* z;
  Activation activation;
  bool before;
};

template <class S>
FD_KERNEL FD_BOUNDS(kWalkThreads, 4) void fill_kernel(FillArgs args) {
  const S* residual = static_cast<const S*>(args.residual.data);
  S* y = static_cast<S*>(args.y);
  S* z = static_cast<S*>(args.z);
  const bool load_vectors = moves_as_vectors<S>(residual, args.residual.row_stride, args.residual.col_stride);
  const bool y_vectors = moves_as_vectors<S>(y, args.N, 1), z_vectors = moves_as_vectors<S>(z, args.N, 1);
  const float at_zero = with_activation(args.activation, [](auto act) { return decltype(act)::forward(0.0f); });
  const float value = args.before ? at_zero : 0.0f, zeros[kOctet] = {};
  for (OctetWalk at(args.M, args.N); at.more(); at.next()) {
    const int valid = at.valid();
    const bool whole = valid == kOctet;
    float v[kOctet] = {};
    if (residual != nullptr)
      load_octet(residual + at.row() * args.residual.row_stride + at.j() * args.residual.col_stride,
                 args.residual.col_stride, valid, load_vectors && whole, v);
    FD_UNROLL
    for (int e = 0; e < kOctet; ++e) v[e] += value;
    const i64 place = at.row() * args.N + at.j();
    store_octet(y + place, valid, y_vectors && whole, v);
    if (z != nullptr) store_octet(z + place, valid, z_vectors && whole, zeros);
  }
}

}  // namespace

void list_columns(const Mask& mask, const bool* known, i64 n, i32* index, i32* count, Stream stream) {
  launch(list_kernel, {1, kListThreads, kListWarps * sizeof(u32)}, stream, mask,
         reinterpret_cast<const unsigned char*>(known), n, index, count);
}

void copy_columns(const CopyArgs& args, Stream stream) {
  with_element(args.dtype, [&](auto s) { launch(copy_kernel<decltype(s)>, walk_grid(args.M, args.N), stream, args); });
}

void fill_dropped(const LinearForwardArgs& args, Stream stream) {
  const FillArgs fill{args.M, args.N, args.residual, args.y, args.z, args.activation, args.before};
  with_element(args.dtype, [&](auto s) { launch(fill_kernel<decltype(s)>, walk_grid(args.M, args.N), stream, fill); });
}

}  // namespace fusedrop::cuda
