// threads: see cpu/runtime/threads.hpp. Compiled with the platform's baseline flags, shared by all instruction sets.
#include "cpu/runtime/threads.hpp"

#include <atomic>

#if defined(_OPENMP)
#include <omp.h>
#if defined(__unix__)
#include <pthread.h>
#endif
#endif

namespace fusedrop::cpu {
namespace {

std::atomic<int> chosen_threads{0};

// 0.6 million multiply-adds take about 10 us on one AVX-512 core. Waking a thread costs about the same.
constexpr i64 kWorkPerThread = 600'000;

#if defined(_OPENMP) && defined(__unix__)
// libgomp's thread pool does not survive fork(): the next parallel region of the child would wait for threads that do
// not exist. So the pool is released just before the fork; parent and child then each build a new one.
void release_threads_before_fork() { omp_pause_resource_all(omp_pause_hard); }
const int fork_handler = pthread_atfork(release_threads_before_fork, nullptr, nullptr);
#endif

}  // namespace

int get_num_threads() {
  const int chosen = chosen_threads.load(std::memory_order_relaxed);
#if defined(_OPENMP)
  return chosen > 0 ? chosen : omp_get_max_threads();
#else
  return chosen > 0 ? chosen : 1;
#endif
}

void set_num_threads(int threads) { chosen_threads.store(threads, std::memory_order_relaxed); }

void run_threads(int threads, void (*body)(int, void*), void* context) {
  if (threads <= 1) return body(0, context);
#if defined(_OPENMP)
  // OpenMP may start fewer threads than requested, so the loop counts the parts, not the threads of the team.
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int part = 0; part < threads; ++part) body(part, context);
#else
  for (int part = 0; part < threads; ++part) body(part, context);
#endif
}

int threads_for(i64 work) {
  const i64 useful = work / kWorkPerThread;
  const int limit = get_num_threads();
  return useful >= limit ? limit : useful < 1 ? 1 : static_cast<int>(useful);
}

ThreadGrid choose_grid(const GridCosts& c) {
  const i64 work = c.M > 0 && c.N > 0 ? c.M * c.N * (c.K + 8) : 0;
  const int threads = threads_for(work);
  ThreadGrid best;
  i64 best_cost = -1;
  for (int rows = 1; rows <= threads; ++rows) {
    ThreadGrid grid;
    grid.rows = rows;
    grid.cols = threads / rows;
    grid.row_chunk = round_up(divide_up(c.M, grid.rows), c.row_unit);
    grid.col_chunk = round_up(divide_up(c.N, grid.cols), c.col_unit);
    const i64 cost = grid.row_chunk * grid.col_chunk + c.a * grid.row_chunk + c.b * grid.col_chunk;
    if (best_cost < 0 || cost < best_cost) {
      best = grid;
      best_cost = cost;
    }
  }
  return best;
}

namespace {
Range chunk(i64 index, i64 size, i64 total) {
  const i64 begin = minimum(index * size, total);
  return {begin, minimum(begin + size, total)};
}
}  // namespace

Range grid_rows(const ThreadGrid& grid, int thread, i64 M) { return chunk(thread / grid.cols, grid.row_chunk, M); }
Range grid_cols(const ThreadGrid& grid, int thread, i64 N) { return chunk(thread % grid.cols, grid.col_chunk, N); }

}  // namespace fusedrop::cpu
