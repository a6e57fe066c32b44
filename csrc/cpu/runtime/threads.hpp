// threads: splits work among threads, and is the only place where threads start.
//
// The C of a matrix product is cut into a grid of rectangles, one per thread. K is never cut among threads, so results
// do not depend on the grid.
#pragma once

#include "core/platform.hpp"

namespace fusedrop::cpu {

int get_num_threads();
void set_num_threads(int threads);  // 0: OpenMP's default again (OMP_NUM_THREADS, or the number of cores)

// Calls body(thread, context) for thread = 0 .. threads-1 and returns when all calls have ended. body must not throw.
// Callers use parallel_for. This function is not a template, so all instruction sets share its code.
void run_threads(int threads, void (*body)(int thread, void* context), void* context);

// Calls body(part) for part = 0 .. parts-1, each on a thread of its own, and returns when all calls have ended. body
// must not throw.
template <class Body>
FD_FN void parallel_for(int parts, Body body) {
  run_threads(parts, [](int part, void* context) { (*static_cast<Body*>(context))(part); }, &body);
}

struct Range {
  i64 begin, end;
  FD_FN i64 size() const { return end - begin; }
};

struct Rect {  // rows [i, i + rows) and columns [j, j + cols) of a matrix
  i64 i, rows, j, cols;
};

struct ThreadGrid {  // of rows x cols threads; each thread has a rectangle of row_chunk x col_chunk elements of C
  int rows = 1, cols = 1;
  i64 row_chunk = 0, col_chunk = 0;
  FD_FN int threads() const { return rows * cols; }
};

// The size of a product C [M,N] = A [M,K] B [K,N], and what packing costs, in multiply-adds.
struct GridCosts {
  i64 M, N, K;
  i64 a, b;  // cost of packing one element of A, and one of B; each thread packs its rows of A and columns of B
  i64 row_unit, col_unit;  // row_chunk and col_chunk are multiples of these
};

ThreadGrid choose_grid(const GridCosts& costs);
Range grid_rows(const ThreadGrid& grid, int thread, i64 M);
Range grid_cols(const ThreadGrid& grid, int thread, i64 N);

// Number of threads worth waking for `work` multiply-adds, or for other operations of this total cost. Waking a thread
// costs about 10 us, see threads.cpp.
int threads_for(i64 work);

}  // namespace fusedrop::cpu
