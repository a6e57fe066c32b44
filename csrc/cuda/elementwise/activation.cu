// activation: y = act(x), or dy * act'(x), for the standalone activation layers
//   x, dy, y: n contiguous elements of float32, bfloat16 or float16
// Numerics  the same structs, hence the same bits, as in the fused kernels
#include "cuda/elementwise/vec8_loop.hpp"
#include "cuda/runtime/kernels.hpp"

namespace fusedrop::cuda {
namespace {

template <class Act>
__device__ __forceinline__ float apply(float x, float dy, bool backward) {
  if (!backward) return Act::forward(x);
  return Act::backward(dy, Act::saves == SavedKind::output ? Act::forward(x) : x);
}

template <class S>
__global__ __launch_bounds__(kLoopThreads, 4) void activation_kernel(ActivationArgs args) {
  const S* x = static_cast<const S*>(args.x);
  const S* dy = static_cast<const S*>(args.dy);
  S* y = static_cast<S*>(args.y);
  const bool backward = dy != nullptr;
  const bool vectors = moves_as_vectors<S>(x, 0, 1) && moves_as_vectors<S>(y, 0, 1) && moves_as_vectors<S>(dy, 0, 1);
  const i64 stride = static_cast<i64>(gridDim.x) * kLoopThreads * kVec8;
  for (i64 i = (static_cast<i64>(blockIdx.x) * kLoopThreads + threadIdx.x) * kVec8; i < args.n; i += stride) {
    const int valid = valid_in_vec8(i, args.n);
    const bool vector = vectors && valid == kVec8;
    float v[kVec8], g[kVec8] = {};
    load_vec8(x + i, 1, valid, vector, v);
    if (backward) load_vec8(dy + i, 1, valid, vector, g);
    with_activation(args.activation, [&](auto act) {
      #pragma unroll
      for (int e = 0; e < kVec8; ++e) v[e] = apply<decltype(act)>(v[e], g[e], backward);
    });
    store_vec8(y + i, valid, vector, v);
  }
}

}  // namespace

void activation(const ActivationArgs& args, const DeviceCall& call) {
  with_element(args.dtype,
               [&](auto s) { launch(activation_kernel<decltype(s)>, vec8_grid(1, args.n), call.stream, args); });
}

i64 activation_workspace(const ActivationArgs&, const DeviceCall&) { return 0; }

}  // namespace fusedrop::cuda
