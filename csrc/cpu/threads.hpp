// threads: how work is split, and the one place where threads start.
//
// A product's C is cut into a grid of rectangles, one a thread; K is never cut, so results do not depend on the grid.
#pragma once

#include "core/platform.hpp"

namespace fusedrop::cpu {

int get_num_threads();
void set_num_threads(int threads);  // 0: back to OpenMP's own default (OMP_NUM_THREADS or the cores)

// Calls body(thread, context) for thread = 0 .. threads-1 and waits. body must not throw.
void run_threads(int threads, void (*body)(int thread, void* context), void* context);

struct Range {
  i64 begin, end;
  FD_FN i64 size() const { return end - begin; }
};

struct Grid {
  int rows = 1, cols = 1;
  i64 row_chunk = 0, col_chunk = 0;
  FD_FN int threads() const { return rows * cols; }
};

// Costs in multiply-adds: what each thread pays for packing one element of its rows of A and of its columns of B.
struct GridCosts {
  i64 M, N, K;
  i64 a, b;
  i64 row_unit, col_unit;  // chunks are multiples of these
};

Grid choose_grid(const GridCosts& costs);
Range grid_rows(const Grid& grid, int thread, i64 M);
Range grid_cols(const Grid& grid, int thread, i64 N);

// How many threads `work` multiply-adds (or as costly steps) deserve: waking one costs about 10 us, see threads.cpp.
int threads_for(i64 work);

}  // namespace fusedrop::cpu
