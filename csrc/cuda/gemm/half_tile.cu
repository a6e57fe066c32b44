// half_tile: launches bfloat16 and float16 products, with the tiles of this GPU's generation. So far there is one kind:
// half_tile.hpp, for compute capability 8.0 and later.
#include "cuda/gemm/half_tile.hpp"

namespace fusedrop::cuda {
namespace {

using Large = TileShape<128, 128, 32, 64, 64, 4>;
using Small = TileShape<64, 64, 32, 32, 32, 4>;

template <class S, class Shape, Major major_a, Major major_b>
void run(const Gemm& g, Stream stream) {
  constexpr u32 stages = Shape::Stages * HalfProduct<S, Shape, major_a, major_b>::kStage;
  launch(&half_tile<S, Shape, major_a, major_b>, grid_of<Shape>(g, stages), stream, g);
}

template <class S, class Shape>
void run_layout(const Gemm& g, Stream stream) {
  const bool a_along_k = g.a.major == Major::k, b_along_k = g.b.major == Major::k;
  if (a_along_k && b_along_k) return run<S, Shape, Major::k, Major::k>(g, stream);
  if (a_along_k) return run<S, Shape, Major::k, Major::row>(g, stream);
  if (b_along_k) return run<S, Shape, Major::row, Major::k>(g, stream);
  return run<S, Shape, Major::row, Major::row>(g, stream);
}

template <class S>
void run_shape(const Gemm& g, Stream stream) {
  if (g.small) return run_layout<S, Small>(g, stream);
  return run_layout<S, Large>(g, stream);
}

}  // namespace

void multiply_half(const Gemm& g, Stream stream) {
  if (g.dtype == Dtype::bfloat16) return run_shape<bfloat16>(g, stream);
  return run_shape<float16>(g, stream);
}

}  // namespace fusedrop::cuda
