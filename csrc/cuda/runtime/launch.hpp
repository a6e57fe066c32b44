// launch: launches a kernel on the caller's stream and turns CUDA errors into C++ exceptions. It never waits for the
// device.
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "cuda/runtime/ptx.hpp"
#include "devices/device_backend.hpp"

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

inline void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

inline void fill_zero(void* data, i64 bytes, Stream stream) {
  if (bytes > 0)
    check(cudaMemsetAsync(data, 0, static_cast<std::size_t>(bytes), static_cast<cudaStream_t>(stream)),
          "filling with 0");
}

template <class... P>
void launch(void (*kernel)(P...), const LaunchGrid& grid, Stream stream, typename NonDeduced<P>::type... args) {
  if (grid.x == 0 || grid.y == 0) return;
#if defined(__CUDACC__)
  const void* function = reinterpret_cast<const void*>(kernel);
  if (grid.shared_bytes > 48 * 1024)
    check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(grid.shared_bytes)),
          "shared memory of a CUDA kernel");
  void* parameters[] = {&args...};
  check(cudaLaunchKernel(function, dim3(static_cast<u32>(grid.x), grid.y), dim3(grid.threads), parameters,
                         grid.shared_bytes, static_cast<cudaStream_t>(stream)),
        "launch of a CUDA kernel");
#else
  static_cast<void>(stream);
  emulation::run_grid({static_cast<u32>(grid.x), grid.y, 1}, grid.threads, grid.shared_bytes, [=] { kernel(args...); });
#endif
}

}  // namespace fusedrop::cuda
