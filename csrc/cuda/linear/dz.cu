// dz: dz = dy * mask * act', and db = sum_i dz, in one pass over dy
//   dy [M,N] float32, bfloat16 or float16, any strides | saved_activation [M,N]: y, z or nothing
//   dz [M,ld] or null | db [N] or null
//   under unit dropout only listed columns are processed: dz has them next to each other, db is 0 elsewhere
// Work      4MN to 12MN bytes; one Philox call for 8 elements, unless y shows what was dropped
// Tiling    a block processes 64 rows of 128 columns; a second kernel adds the blocks' sums
// Numerics  db adds dz in float32, before dz is rounded; the order of a sum depends on M only, so every device and
//           every run gives the same bits
// Limits    any M, N >= 0
#include "cuda/elementwise/vec8_loop.hpp"

namespace fusedrop::cuda {
namespace {

constexpr i64 kChunkRows = 64;
constexpr i64 kTileColumns = 128;  // 256 bytes of a row of 16-bit elements
constexpr u32 kRowLanes = kTileColumns / kVec8;
constexpr u32 kTileRows = kLoopThreads / kRowLanes;  // rows that the block processes at a time

FD_FN i64 tiles_of(i64 N) { return divide_up(N, kTileColumns); }

struct DzKernelArgs {
  DzArgs dz;
  float scale, rescale;
};

// The mask to draw. If relu's output is saved no mask is drawn: y > 0 holds exactly for the elements that were kept and
// positive.
__device__ __forceinline__ Mask mask_to_draw(const LinearBackwardArgs& call, const ColumnList& outputs) {
  Mask mask = mask_within(outputs, load_mask_key(call.epilogue.mask));
  if (call.epilogue.activation == Activation::relu && call.epilogue.saved_kind == SavedKind::output) mask.threshold = 0;
  return mask;
}

// partial[j] = the sum over the block's rows. `sums` holds the sums over a thread's own rows; here they are added over
// the threads, in ascending order.
__device__ __forceinline__ void store_sums(const float (&sums)[kVec8], i64 columns, float* partial) {
  float* all = reinterpret_cast<float*>(shared_memory);  // [kTileRows][kTileColumns]
  #pragma unroll
  for (int e = 0; e < kVec8; ++e) all[threadIdx.x * kVec8 + e] = sums[e];
  __syncthreads();
  const i64 j = threadIdx.x;
  if (j >= kTileColumns || j >= columns) return;
  float sum = 0.0f;
  for (u32 line = 0; line < kTileRows; ++line) sum += all[line * kTileColumns + j];
  partial[j] = sum;
}

template <class S>
__global__ __launch_bounds__(kLoopThreads, 3) void dz_kernel(DzKernelArgs args) {
  const LinearBackwardArgs& call = args.dz.call;
  const ColumnList outputs = args.dz.outputs;
  const i64 N = call.N, count = count_of(outputs, N);
  const i64 chunk = blockIdx.x / tiles_of(N), first = blockIdx.x % tiles_of(N) * kTileColumns;
  S* db = static_cast<S*>(call.db);
  if (db != nullptr && chunk == 0 && threadIdx.x < kTileColumns && first + threadIdx.x < N)
    narrow(0.0f, db[first + threadIdx.x]);
  if (first >= count) return;

  const Mask mask = mask_to_draw(call, outputs);
  const Source<S> dy(call.dy), saved({call.saved_activation, N, 1});
  S* dz = static_cast<S*>(args.dz.dz);
  const i64 j = first + threadIdx.x % kRowLanes * kVec8;
  float sums[kVec8] = {};
  for (i64 i = chunk * kChunkRows; i < (chunk + 1) * kChunkRows && i < call.M; i += kTileRows) {
    const i64 row = i + threadIdx.x / kRowLanes;
    const int valid = row < call.M ? valid_in_vec8(j, count) : 0;
    float g[kVec8], s[kVec8] = {};
    load_columns(dy, row, j, outputs, valid, g);
    if (saved.data != nullptr) load_columns(saved, row, j, outputs, valid, s);
    const u32 keep = keep_columns(mask, row, j, outputs, valid);
    with_activation(call.epilogue.activation, [&](auto act) {
      #pragma unroll
      for (int e = 0; e < kVec8; ++e) {
        g[e] = Epilogue<decltype(act)>::backward(g[e], s[e], call.epilogue.saved_kind, (keep >> e & 1) != 0,
                                                 {args.scale, args.rescale}, call.epilogue.dropout_first);
        sums[e] += g[e];
      }
    });
    if (dz != nullptr && valid > 0) store_whole(dz + row * args.dz.ld + j, g);  // past `valid` dy is 0, and dz too
  }
  if (db != nullptr) store_sums(sums, count - first, args.dz.partial + chunk * N + first);
}

constexpr u32 kFoldColumns = 8;  // 32 bytes of a row of partial sums: the least that memory moves
constexpr u32 kFoldLines = kLoopThreads / kFoldColumns;

// db of a column: adds every 32nd chunk first, then the 32 sums.
template <class S>
__global__ __launch_bounds__(kLoopThreads, 4) void fold_kernel(DzArgs args, i64 chunks) {
  float* all = reinterpret_cast<float*>(shared_memory);  // [kFoldLines][kFoldColumns]
  const i64 N = args.call.N, count = count_of(args.outputs, N);
  const u32 column = threadIdx.x % kFoldColumns, line = threadIdx.x / kFoldColumns;
  const i64 j = static_cast<i64>(blockIdx.x) * kFoldColumns + column;
  float sum = 0.0f;
  if (j < count)
    for (i64 chunk = line; chunk < chunks; chunk += kFoldLines) sum += args.partial[chunk * N + j];
  all[threadIdx.x] = sum;
  __syncthreads();
  if (line != 0 || j >= count) return;
  for (u32 other = 1; other < kFoldLines; ++other) sum += all[other * kFoldColumns + column];
  narrow(sum, static_cast<S*>(args.call.db)[args.outputs.index == nullptr ? j : args.outputs.index[j]]);
}

}  // namespace

// M == 0 still launches one chunk, which writes db = 0.
i64 dz_chunks(i64 M) { return M == 0 ? 1 : divide_up(M, kChunkRows); }

void compute_dz(const DzArgs& args, Stream stream) {
  const i64 chunks = dz_chunks(args.call.M);
  const float scale = static_cast<float>(keep_scale(args.call.epilogue.mask.threshold));
  const DzKernelArgs all{args, scale, scale == 0.0f ? 0.0f : 1.0f / scale};
  with_element(args.call.dtype, [&](auto s) {
    using S = decltype(s);
    launch(dz_kernel<S>, {chunks * tiles_of(args.call.N), kLoopThreads, kTileRows * kTileColumns * sizeof(float)},
           stream, all);
    if (args.call.db != nullptr)
      launch(fold_kernel<S>, {divide_up(args.call.N, kFoldColumns), kLoopThreads, kLoopThreads * sizeof(float)}, stream,
             args, chunks);
  });
}

}  // namespace fusedrop::cuda
