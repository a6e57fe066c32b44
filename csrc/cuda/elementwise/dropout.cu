// dropout: y = keep ? x * scale : 0, and the mask alone
//   x [M,N] float32, bfloat16 or float16, any strides | y [M,N] | keep [M,N] bool; mask as in linear_forward
// Work      one Philox call for 8 elements; 8MN bytes for float32
// Limits    any M, N >= 0; more than 2^31 elements
#include "cuda/elementwise/vec8_loop.hpp"
#include "cuda/runtime/kernels.hpp"

namespace fusedrop::cuda {
namespace {

template <class S>
__global__ __launch_bounds__(kLoopThreads, 4) void dropout_kernel(DropoutArgs args) {
  const Mask mask = load_mask_key(args.mask);
  const float scale = static_cast<float>(args.scale);
  const S* x = static_cast<const S*>(args.x.data);
  S* y = static_cast<S*>(args.y);
  const bool load_vectors = moves_as_vectors<S>(x, args.x.row_stride, args.x.col_stride);
  const bool store_vectors = moves_as_vectors<S>(y, args.N, 1);
  for (Vec8Loop at(args.M, args.N); at.more(); at.next()) {
    const int valid = at.valid();
    float v[kVec8];  // loaded before the mask is drawn, which hides the latency
    load_vec8(x + at.row() * args.x.row_stride + at.j() * args.x.col_stride, args.x.col_stride, valid,
              load_vectors && valid == kVec8, v);
    const u32 keep = keep_vec8(mask, static_cast<u64>(at.row()), static_cast<u64>(at.j()));
    #pragma unroll
    for (int e = 0; e < kVec8; ++e) v[e] = (keep >> e & 1) != 0 ? v[e] * scale : 0.0f;
    store_vec8(y + at.row() * args.N + at.j(), valid, store_vectors && valid == kVec8, v);
  }
}

// Moves bit e of four bits to the lowest bit of byte e. The product puts bit e at 8e; the AND removes its other copies.
__device__ __forceinline__ u32 bytes_of(u32 four_bits) { return (four_bits * 0x00204081u) & 0x01010101u; }

__global__ __launch_bounds__(kLoopThreads, 4) void mask_kernel(DropoutMaskArgs args) {
  const Mask mask = load_mask_key(args.mask);
  const bool vectors = reinterpret_cast<std::uintptr_t>(args.keep) % kVec8 == 0 && args.N % kVec8 == 0;
  for (Vec8Loop at(args.M, args.N); at.more(); at.next()) {
    const u32 keep = keep_vec8(mask, static_cast<u64>(at.row()), static_cast<u64>(at.j()));
    const int valid = at.valid();
    bool* to = args.keep + at.row() * args.N + at.j();
    if (vectors && valid == kVec8)
      st(to, make_uint2(bytes_of(keep & 0xf), bytes_of(keep >> 4)));
    else
      for (int e = 0; e < valid; ++e) to[e] = (keep >> e & 1) != 0;
  }
}

}  // namespace

void dropout(const DropoutArgs& args, const DeviceCall& call) {
  with_element(args.dtype,
               [&](auto s) { launch(dropout_kernel<decltype(s)>, vec8_grid(args.M, args.N), call.stream, args); });
}

i64 dropout_workspace(const DropoutArgs&, const DeviceCall&) { return 0; }

void dropout_mask(const DropoutMaskArgs& args, const DeviceCall& call) {
  launch(mask_kernel, vec8_grid(args.M, args.N), call.stream, args);
}

i64 dropout_mask_workspace(const DropoutMaskArgs&, const DeviceCall&) { return 0; }

}  // namespace fusedrop::cuda
