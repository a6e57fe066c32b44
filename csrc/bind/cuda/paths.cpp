// paths: see paths.hpp.
#include "bind/cuda/paths.hpp"

#include <pybind11/pybind11.h>

#include <array>

#include "cuda/runtime/kernels.hpp"

namespace fusedrop::bind::cuda {
namespace {

constexpr std::array<const char*, 6> kNames = {"dropout",     "activation",      "linear float32",
                                               "linear tf32", "linear bfloat16", "linear float16"};

}  // namespace

void require_proved(Path path) {
  static std::array<bool, kNames.size()> proved{};  // looked up once; the GIL protects it
  const auto i = static_cast<std::size_t>(path);
  if (proved[i] || fusedrop::cuda::emulated()) return;
  pybind11::module_::import("fusedrop.cuda.paths").attr("require")(kNames[i]);
  proved[i] = true;
}

Path linear_path(Dtype dtype, bool tf32) {
  if (dtype == Dtype::bfloat16) return Path::linear_bfloat16;
  if (dtype == Dtype::float16) return Path::linear_float16;
  return tf32 ? Path::linear_tf32 : Path::linear_float32;
}

}  // namespace fusedrop::bind::cuda
