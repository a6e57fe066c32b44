// lstm_forward: z_t = drop(x_t) w_ihᵀ + b + drop(h_{t-1}) w_hhᵀ, then the cell of core/lstm_cell.hpp, for t = 0 .. T-1
//   x [B*T,I] | w_ih [4H,I], w_hh [4H,H], b [4H] | h0, c0 [B,H] | y [B,T,H], h, c [B,H]
//   gates, cells, h_prev: saved for backward
//   masks = f(seed, stream, step, ((row0 + b)*T + t) / repeat, column), see core/params/lstm.hpp
// Work      8BTH(I + H) flop and five transcendental functions for each of BTH elements
// Tiling    x w_ihᵀ + b of all time steps: one product per gate; h_{t-1} w_hhᵀ: cpu/lstm/recurrence.hpp
// Numerics  z = (sum over x + b) + sum over h, each sum one chain of fma in k order; the same bits for any number of
//           threads
// Limits    any B, T, I, H >= 0; no read past the last element; re-entrant; memory only from cpu/runtime/scratch.hpp
#pragma once

#include "core/lstm_cell.hpp"
#include "cpu/gemm/epilogue_sink.hpp"
#include "cpu/gemm/operands.hpp"
#include "cpu/lstm/recurrence.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

// gates[g] = drop(x) w_ih[g]ᵀ + b[g]
template <class T>
void project_inputs(const LstmForwardArgs& args) {
  const i64 rows = args.B * args.T, H = args.H, I = args.I;
  // The costs of packing are those of linear_forward.
  const ThreadGrid grid = choose_grid({rows, H, I, 30, 9, 4, kGroup});
  const WorkspaceLayout<T> layout(Order::by_rows, grid.col_chunk, I, false);
  char* const* memory = scratch(grid.threads(), layout.size());
  const MaskBits no_mask{Mask{}};
  for (int gate = 0; gate < kGates; ++gate) {
    const MaskBits x_mask_bits(args.input.of(gate, I));
    EpilogueParams epilogue;
    if (args.b != nullptr) epilogue.b = static_cast<const T*>(args.b) + gate * H * args.b_stride;
    epilogue.b_stride = args.b_stride;
    parallel_for(grid.threads(), [&](int thread) {
      u32* words = layout.words(memory[thread]);
      const DenseA<T> x{View<T>(args.x), I, x_mask_bits, words};
      const DenseB<T> w{View<T>(args.w_ih).at(gate * H, 0).transposed(), I};
      EpilogueSink<T, AllIndices> sink(epilogue, {static_cast<T*>(args.gates) + gate * rows * H, nullptr, H},
                                       AllIndices(H), no_mask, words);
      multiply<Order::by_rows, T>(grid_rows(grid, thread, rows), grid_cols(grid, thread, H), x, w, sink,
                                  layout.workspace(memory[thread]));
    });
  }
}

template <class T>
class ForwardRecurrence {
 public:
  using V = Vec<T>;
  static constexpr int NR = Tiling<T>::NR;
  const LstmForwardArgs& args;

  explicit ForwardRecurrence(const LstmForwardArgs& a) : args(a), masks_(a.recurrent, a.H) {}

  Recurrence<T> recurrence() const { return Recurrence<T>(args.H, args.H, 0, masks_.bytes()); }

  void pack(Recurrence<T>& recurrence) const {
    for (int gate = 0; gate < kGates; ++gate)
      recurrence.pack(gate, 0, args.H, View<T>(args.w_hh).at(gate * args.H, 0).transposed());
  }

  void run_band(Recurrence<T>& recurrence, Range band) const {
    for (i64 b = band.begin; b < band.end; ++b) {
      copy_row(static_cast<const T*>(args.h0) + b * args.H, args.H, h_after(b, -1));
      if (args.T == 0) copy_row(static_cast<const T*>(args.c0) + b * args.H, args.H, final_c(b));
    }
    for (i64 t = 0; t < args.T; ++t) {
      masks_.draw(band, args.T, t, t == 0, recurrence.h_words());
      form_a(recurrence, band, t);
      for (i64 j = 0; j < args.H; j += NR)
        visit_equal(0, band.size(), Tiling<T>::MR,
                    [&](i64 r, i64 rows) { time_step(recurrence, band.begin, r, rows, j, t); });
    }
    for (i64 b = band.begin; b < band.end && args.T > 0; ++b) copy_row(cells(b, args.T - 1), args.H, final_c(b));
  }

 private:
  // Writes drop(h_{t-1}) to A: once, or once per gate if each gate has its own mask.
  void form_a(const Recurrence<T>& recurrence, Range band, i64 t) const {
    for (int gate = 0; gate < masks_.count(); ++gate)
      for (i64 r = 0; r < band.size(); ++r)
        for (i64 k = 0; k < args.H; k += V::W) {  // a row of A has room for whole vectors
          V h = load_first<V>(h_after(band.begin + r, t - 1) + k, minimum(V::W, args.H - k));
          if (!masks_.keeps_all()) h = masks_.drop(h, recurrence.h_words(), gate, r, k);
          h.store(recurrence.a(gate, r, k));
        }
  }

  // One time step of NR units of `rows` sequences, from row r of the band on: four register tiles, then the cells.
  void time_step(const Recurrence<T>& recurrence, i64 first, i64 r, i64 rows, i64 j, i64 t) const {
    alignas(64) T tiles[kGates][Tiling<T>::MR * NR];
    const i64 cols = minimum(NR, args.H - j);
    for (int gate = 0; gate < kGates; ++gate) {
      prefetch_tile(gates(gate, first + r, t) + j, args.T * args.H, rows, cols);
      recurrence.multiply(args.recurrent.by_gate ? gate : 0, gate, {r, rows, j, cols}, tiles[gate], false);
    }
    for (i64 i = 0; i < rows; ++i)
      for (i64 c = 0; c < cols; c += V::W)
        cell_vector(first + r + i, t, j + c, minimum(V::W, cols - c), &tiles[0][i * NR + c]);
  }

  // The cells of one vector of units. `sums` is h w_hhᵀ of the first gate; the other gates follow, MR * NR apart.
  FD_FN void cell_vector(i64 b, i64 t, i64 j, i64 n, const T* sums) const {
    const auto z = [&](int gate) {
      return load_first<V>(gates(gate, b, t) + j, n) + V::load(sums + gate * Tiling<T>::MR * NR);
    };
    const T* c_prev = t > 0 ? cells(b, t - 1) : static_cast<const T*>(args.c0) + b * args.H;
    V c, h;
    const LstmGates<V> s = lstm_cell(LstmGates<V>{z(0), z(1), z(2), z(3)}, load_first<V>(c_prev + j, n), c, h);
    store_first(s.i, n, gates(0, b, t) + j);
    store_first(s.f, n, gates(1, b, t) + j);
    store_first(s.g, n, gates(2, b, t) + j);
    store_first(s.o, n, gates(3, b, t) + j);
    store_first(c, n, cells(b, t) + j);
    store_first(h, n, h_after(b, t) + j);
    if (args.y != nullptr) store_first(h, n, static_cast<T*>(args.y) + (b * args.T + t) * args.H + j);
  }

  FD_FN T* gates(int gate, i64 b, i64 t) const {
    return static_cast<T*>(args.gates) + ((gate * args.B + b) * args.T + t) * args.H;
  }
  FD_FN T* cells(i64 b, i64 t) const { return static_cast<T*>(args.cells) + (b * args.T + t) * args.H; }
  FD_FN T* final_c(i64 b) const { return static_cast<T*>(args.c) + b * args.H; }
  // Where h_t is stored: in h_prev of the next time step, or in the result h after the last one.
  FD_FN T* h_after(i64 b, i64 t) const {
    if (t == args.T - 1) return static_cast<T*>(args.h) + b * args.H;
    return static_cast<T*>(args.h_prev) + (b * args.T + t + 1) * args.H;
  }

  TimeStepMasks<T> masks_;
};

template <class T>
void lstm_forward_typed(const LstmForwardArgs& args) {
  project_inputs<T>(args);
  const ForwardRecurrence<T> job(args);
  run_bands<T>(job, job.recurrence(), args.B * args.T * kGates * args.H * (args.H + 32));
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
