// platform: what differs between a C++ compiler and a CUDA compiler; integer types; integer arithmetic on sizes.
#pragma once

#include <cstddef>
#include <cstdint>

// Every function of core/ is FD_FN and so is always inlined: an object file that is compiled for one instruction set
// exports no copy that the linker could choose for a CPU without that instruction set.
#if defined(__CUDACC__)
#define FD_FN __host__ __device__ __forceinline__
#else
#define FD_FN inline __attribute__((always_inline))
#endif

namespace fusedrop {

using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i32 = std::int32_t;
using i64 = std::int64_t;

FD_FN constexpr i64 minimum(i64 a, i64 b) { return a < b ? a : b; }
FD_FN constexpr i64 maximum(i64 a, i64 b) { return a > b ? a : b; }
FD_FN constexpr i64 round_up(i64 value, i64 unit) { return (value + unit - 1) / unit * unit; }
FD_FN constexpr i64 divide_up(i64 value, i64 unit) { return (value + unit - 1) / unit; }

}  // namespace fusedrop
