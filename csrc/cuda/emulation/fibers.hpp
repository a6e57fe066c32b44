// emulation/fibers: runs a grid of thread blocks on the host, each thread a fiber that leaves the others the processor
// where it has to wait for them.
#pragma once

#include <functional>

#include "core/platform.hpp"

namespace fusedrop::cuda::emulation {

struct Place {  // of the thread that runs
  u32 thread, threads, block_x, block_y, grid_x;
};
const Place& current();

// Runs `kernel` for every thread of the grid. std::runtime_error for what hardware would fault or hang on.
void run_grid(u32 grid_x, u32 grid_y, u32 threads, u32 shared_bytes, const std::function<void()>& kernel);

void sync_block();
// Waits for the warp's 32 lanes; the last one calls act with what each has brought.
void sync_warp(void* mine, void (*act)(void** all));

void copy(u32 shared, const void* global, u32 bytes, int valid);
void commit_copies();
void wait_copies(int pending);

char* shared(u32 address, u32 bytes, u32 alignment);  // of the running block, checked
void require_aligned(const void* address, u32 alignment);

}  // namespace fusedrop::cuda::emulation
