// emulation/fibers: runs a grid of thread blocks on the host. Each thread is a fiber; at a barrier it switches to
// another one.
#pragma once

#include <cuda_runtime.h>

#include <functional>

#include "core/platform.hpp"

namespace fusedrop::cuda::emulation {

// Runs `kernel` for every thread of the grid. Throws std::runtime_error where hardware would fault or hang.
void run_grid(dim3 grid, u32 threads, u32 shared_bytes, const std::function<void()>& kernel);

// Waits for the 32 lanes of the warp. The last lane calls `act` with the arguments of all lanes.
void sync_warp(void* argument, void (*act)(void** all));

void copy(u32 shared, const void* global, u32 bytes, int valid);
void commit_copies();
void wait_copies(int pending);

char* shared(u32 address, u32 bytes, u32 alignment);  // in the running block; faults if misaligned or out of bounds
void require_aligned(const void* address, u32 alignment);

}  // namespace fusedrop::cuda::emulation
