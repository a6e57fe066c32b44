// paths: kernels that must be proved on hardware before they run by default (fusedrop/cuda/paths.py).
#pragma once

#include "core/dtypes.hpp"

namespace fusedrop::bind::cuda {

enum class Path { dropout, activation, linear_float32, linear_tf32, linear_bfloat16, linear_float16 };

void require_proved(Path path);  // RuntimeError that says how to prove the path, or run it anyway

Path linear_path(Dtype dtype, bool tf32);

}  // namespace fusedrop::bind::cuda
