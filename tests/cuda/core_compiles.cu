// core_compiles: the headers of csrc/core in device code; compiled by tests/test_build.py where nvcc is found, not run.
#include "core/args.hpp"
#include "core/epilogue.hpp"
#include "core/mask.hpp"

template <class Act, class T>
__global__ void layer(const T* z, const T* dy, T* y, T* dz, int n, fusedrop::Mask mask, T scale) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const bool keep = fusedrop::keep_element(mask, 0, i);
  y[i] = fusedrop::Epilogue<Act>::forward(z[i], keep, scale, false);
  dz[i] =
      fusedrop::Epilogue<Act>::backward(dy[i], z[i], fusedrop::Saved::preactivation, keep, scale, T(1) / scale, true);
}

#define FUSEDROP_INSTANCE(id, type, name)                                                                     \
  template __global__ void layer<fusedrop::type, float>(const float*, const float*, float*, float*, int,      \
                                                        fusedrop::Mask, float);                               \
  template __global__ void layer<fusedrop::type, double>(const double*, const double*, double*, double*, int, \
                                                         fusedrop::Mask, double);
FUSEDROP_ACTIVATIONS(FUSEDROP_INSTANCE)
