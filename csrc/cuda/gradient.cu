// gradient: dz = dy * mask * act', and db = sum_i dz, in one pass over dy
//   dy [M,N] float32, bfloat16 or float16, any strides | kept [M,N]: y, z or nothing | dz [M,ld] or null | db [N] or null
//   only listed columns count under unit dropout: dz holds them side by side, db is 0 elsewhere
// Work      4MN bytes to 12MN; one Philox call for 8 elements, where y does not tell what was dropped
// Tiling    a block forms 64 rows of 128 columns; a second kernel adds the blocks' sums
// Numerics  db adds dz in float32 before it is rounded; places of a sum depend on M alone, so every device, and every
//           run, gives the same bits
// Limits    any M, N >= 0
#include "cuda/octets.hpp"

namespace fusedrop::cuda {
namespace {

constexpr i64 kChunkRows = 64;
constexpr i64 kTileColumns = 128;  // 256 bytes of a row of 16-bit elements
constexpr u32 kRowLanes = kTileColumns / kOctet;
constexpr u32 kTileRows = kWalkThreads / kRowLanes;  // formed at a time

FD_FN i64 tiles_of(i64 N) { return divide_up(N, kTileColumns); }

struct GradientKernelArgs {
  GradientArgs gradient;
  float scale, rescale;
};

// What may be dropped and does not show in `kept`: relu's own output tells kept and positive from everything else.
FD_DEVICE Mask mask_to_draw(const LinearBackwardArgs& call, const Columns& outputs) {
  Mask mask = mask_within(outputs, named(call.mask));
  if (call.activation == Activation::relu && call.saved == Saved::output) mask.threshold = 0;
  return mask;
}

// partial[j] = the sum of the block's rows, in their order of `lines`: a thread's own rows first, then the threads.
FD_DEVICE void store_sums(const float (&sums)[kOctet], i64 columns, float* partial) {
  float* all = reinterpret_cast<float*>(shared_memory());  // [kTileRows][kTileColumns]
  FD_UNROLL
  for (int e = 0; e < kOctet; ++e) all[thread_index() * kOctet + e] = sums[e];
  sync_threads();
  const i64 j = thread_index();
  if (j >= kTileColumns || j >= columns) return;
  float sum = 0.0f;
  for (u32 line = 0; line < kTileRows; ++line) sum += all[line * kTileColumns + j];
  partial[j] = sum;
}

template <class S>
FD_KERNEL FD_BOUNDS(kWalkThreads, 3) void gradient_kernel(GradientKernelArgs args) {
  const LinearBackwardArgs& call = args.gradient.call;
  const Columns outputs = args.gradient.outputs;
  const i64 N = call.N, count = count_of(outputs, N);
  const i64 chunk = block_index() / tiles_of(N), first = block_index() % tiles_of(N) * kTileColumns;
  S* db = static_cast<S*>(call.db);
  if (db != nullptr && chunk == 0 && thread_index() < kTileColumns && first + thread_index() < N)
    narrow(0.0f, db[first + thread_index()]);
  if (first >= count) return;

  const Mask mask = mask_to_draw(call, outputs);
  const S* dy = static_cast<const S*>(call.dy.data);
  const S* kept = static_cast<const S*>(call.kept);
  S* dz = static_cast<S*>(args.gradient.dz);
  const bool dy_vectors = moves_as_vectors<S>(dy, call.dy.row_stride, call.dy.col_stride);
  const bool kept_vectors = moves_as_vectors<S>(kept, N, 1);
  const i64 j = first + thread_index() % kRowLanes * kOctet;
  float sums[kOctet] = {};
  for (i64 i = chunk * kChunkRows; i < (chunk + 1) * kChunkRows && i < call.M; i += kTileRows) {
    const i64 row = i + thread_index() / kRowLanes;
    const int valid = row < call.M ? valid_of_octet(j, count) : 0;
    float g[kOctet], s[kOctet] = {};
    load_columns(dy + row * call.dy.row_stride, call.dy.col_stride, j, outputs, valid, dy_vectors, g);
    if (kept != nullptr) load_columns(kept + row * N, 1, j, outputs, valid, kept_vectors, s);
    const u32 keep = keep_columns(mask, row, j, outputs, valid);
    with_activation(call.activation, [&](auto act) {
      FD_UNROLL
      for (int e = 0; e < kOctet; ++e) {
        g[e] = Epilogue<decltype(act)>::backward(g[e], s[e], call.saved, (keep >> e & 1) != 0, args.scale, args.rescale,
                                                 call.before);
        sums[e] += g[e];
      }
    });
    if (dz != nullptr && valid > 0) store_whole(dz + row * args.gradient.ld + j, g);  // past `valid` dy was 0, so is dz
  }
  if (db != nullptr) store_sums(sums, count - first, args.gradient.partial + chunk * N + first);
}

constexpr u32 kFoldColumns = 8;  // 32 bytes of a row of partial sums: what memory moves at least
constexpr u32 kFoldLines = kWalkThreads / kFoldColumns;

// db of a column from its chunks: every 32nd one first, then those 32 sums.
template <class S>
FD_KERNEL FD_BOUNDS(kWalkThreads, 4) void fold_kernel(GradientArgs args, i64 chunks) {
  float* all = reinterpret_cast<float*>(shared_memory());  // [kFoldLines][kFoldColumns]
  const i64 N = args.call.N, count = count_of(args.outputs, N);
  const u32 column = thread_index() % kFoldColumns, line = thread_index() / kFoldColumns;
  const i64 j = static_cast<i64>(block_index()) * kFoldColumns + column;
  float sum = 0.0f;
  if (j < count)
    for (i64 chunk = line; chunk < chunks; chunk += kFoldLines) sum += args.partial[chunk * N + j];
  all[thread_index()] = sum;
  sync_threads();
  if (line != 0 || j >= count) return;
  for (u32 other = 1; other < kFoldLines; ++other) sum += all[other * kFoldColumns + column];
  narrow(sum, static_cast<S*>(args.call.db)[args.outputs.index == nullptr ? j : args.outputs.index[j]]);
}

}  // namespace

// No row is a chunk too: somebody has to write a db of zeros.
i64 gradient_partials(i64 M) { return M == 0 ? 1 : divide_up(M, kChunkRows); }

void gradient(const GradientArgs& args, Stream stream) {
  const i64 chunks = gradient_partials(args.call.M);
  const float scale = static_cast<float>(keep_scale(args.call.mask.threshold));
  const GradientKernelArgs all{args, scale, scale == 0.0f ? 0.0f : 1.0f / scale};
  with_element(args.call.dtype, [&](auto s) {
    using S = decltype(s);
    launch(gradient_kernel<S>, {chunks * tiles_of(args.call.N), kWalkThreads, kTileRows * kTileColumns * sizeof(float)},
           stream, all);
    if (args.call.db != nullptr)
      launch(fold_kernel<S>, {divide_up(args.call.N, kFoldColumns), kWalkThreads, kWalkThreads * sizeof(float)}, stream,
             args, chunks);
  });
}

}  // namespace fusedrop::cuda
