// launch: launches a kernel on the caller's stream and turns CUDA errors into C++ exceptions. It never waits for the
// device.
#pragma once

#include "cuda/runtime/device.hpp"
#include "cuda/runtime/stream.hpp"

#if defined(__CUDACC__)
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>
#endif

namespace fusedrop::cuda {

struct LaunchGrid {
  i64 x;  // blocks; with 0, nothing is launched
  u32 threads;
  u32 shared_bytes = 0;
  u32 y = 1;
};

template <class T>
struct NonDeduced {  // excludes an argument from the deduction of a kernel's parameter types
  using type = T;
};

#if defined(__CUDACC__)

inline void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

template <class... P>
void launch(void (*kernel)(P...), const LaunchGrid& grid, Stream stream, typename NonDeduced<P>::type... args) {
  if (grid.x == 0 || grid.y == 0) return;
  const void* function = reinterpret_cast<const void*>(kernel);
  if (grid.shared_bytes > 48 * 1024)
    check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(grid.shared_bytes)),
          "shared memory of a CUDA kernel");
  void* parameters[] = {&args...};
  check(cudaLaunchKernel(function, dim3(static_cast<u32>(grid.x), grid.y), dim3(grid.threads), parameters,
                         grid.shared_bytes, static_cast<cudaStream_t>(stream)),
        "launch of a CUDA kernel");
}

inline void fill_zero(void* data, i64 bytes, Stream stream) {
  if (bytes > 0)
    check(cudaMemsetAsync(data, 0, static_cast<std::size_t>(bytes), static_cast<cudaStream_t>(stream)),
          "filling with 0");
}

#else

inline void fill_zero(void* data, i64 bytes, Stream) {
  if (bytes > 0) std::memset(data, 0, static_cast<std::size_t>(bytes));
}

template <class... P>
void launch(void (*kernel)(P...), const LaunchGrid& grid, Stream, typename NonDeduced<P>::type... args) {
  emulation::run_grid(static_cast<u32>(grid.x), grid.y, grid.threads, grid.shared_bytes, [=] { kernel(args...); });
}

#endif

}  // namespace fusedrop::cuda
