// float_tile: launches float32 products, exact or in TF32.
#include "cuda/gemm/float_tile.hpp"

namespace fusedrop::cuda {
namespace {

using Large = TileShape<128, 128, 16, 64, 32, 3>;
using Small = TileShape<64, 64, 16, 32, 16, 3>;

template <class Shape, class Product>
void run(const Gemm& g, Stream stream) {
  constexpr u32 stages = Shape::Stages * (FloatTile<Shape, Shape::M>::Bytes + FloatTile<Shape, Shape::N>::Bytes);
  launch(&float_tile<Shape, Product>, grid_of<Shape>(g, stages), stream, g);
}

template <class Shape>
void run_product(const Gemm& g, Stream stream) {
  if (g.tf32) return run<Shape, Tf32Product<Shape>>(g, stream);
  return run<Shape, FloatProduct<Shape>>(g, stream);
}

}  // namespace

void multiply_float(const Gemm& g, Stream stream) {
  if (g.small) return run_product<Small>(g, stream);
  return run_product<Large>(g, stream);
}

}  // namespace fusedrop::cuda
