// lstm_backward: runs the time loop in reverse. Each time step computes its rows of dz [B*T,4H], and from them
//   dh_{t-1} = sum over gates g of drop_g(dz_t[g] w_hh[g]), in the order i, f, c, o; if the gates share one mask, the
//   sum is formed first and dropped once
//   dx_t likewise, with w_ih and the masks of x
// The gradients of the weights follow in cpu/lstm/weights.inl.
// Work      8BTH(I + H) flop; tanh(c) is computed again
// Numerics  as forward; the same bits for any number of threads
// Limits    any B, T, I, H >= 0; no read past the last element; re-entrant; memory only from cpu/runtime/scratch.hpp
//           and args
#pragma once

#include "core/lstm_cell.hpp"
#include "cpu/lstm/recurrence.hpp"
#include "cpu/lstm/weights.inl"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class T>
class BackwardRecurrence {
 public:
  using V = Vec<T>;
  static constexpr int NR = Tiling<T>::NR;
  const LstmBackwardArgs& args;

  explicit BackwardRecurrence(const LstmBackwardArgs& a)
      : args(a), x_masks_(a.input, a.I), h_masks_(a.recurrent, a.H) {}

  // B holds the columns of w_ih, if dx is wanted, and then those of w_hh. Returns the first column of w_hh.
  i64 h_column() const { return args.dx == nullptr ? 0 : round_up(args.I, NR); }
  Recurrence<T> recurrence() const {
    return Recurrence<T>(args.H, h_column() + args.H, x_masks_.bytes(), h_masks_.bytes());
  }

  void pack(Recurrence<T>& recurrence) const {
    for (int gate = 0; gate < kGates; ++gate) {
      if (args.dx != nullptr) recurrence.pack(gate, 0, args.I, View<T>(args.w_ih).at(gate * args.H, 0));
      recurrence.pack(gate, h_column(), args.H, View<T>(args.w_hh).at(gate * args.H, 0));
    }
  }

  void run_band(Recurrence<T>& recurrence, Range band) const {
    for (i64 r = 0; r < band.size(); ++r) {
      start_row(args.dh, band.begin + r, recurrence.dh(r));
      start_row(args.dc, band.begin + r, recurrence.dc(r));
    }
    for (i64 t = args.T - 1; t >= 0; --t) {
      x_masks_.draw(band, args.T, t, t == args.T - 1, recurrence.x_words());
      h_masks_.draw(band, args.T, t, t == args.T - 1, recurrence.h_words());
      for (i64 r = 0; r < band.size(); ++r) cell_row(recurrence, band.begin + r, r, t);
      visit_equal(0, band.size(), Tiling<T>::MR, [&](i64 r, i64 rows) {
        if (t > 0) prefetch_time_step(band.begin + r, rows, t - 1);
        time_step_gradients(recurrence, band.begin, r, rows, t);
      });
    }
    for (i64 r = 0; r < band.size(); ++r) {
      copy_row(recurrence.dh(r), args.H, static_cast<T*>(args.dh0) + (band.begin + r) * args.H);
      copy_row(recurrence.dc(r), args.H, static_cast<T*>(args.dc0) + (band.begin + r) * args.H);
    }
  }

 private:
  void start_row(const void* gradient, i64 b, T* row) const {
    if (gradient != nullptr) return copy_row(static_cast<const T*>(gradient) + b * args.H, args.H, row);
    for (i64 j = 0; j < args.H; ++j) row[j] = T(0);
  }

  // Prefetches what the cells of the next time step read, while the products of this one run.
  void prefetch_time_step(i64 b, i64 rows, i64 t) const {
    const i64 at = (b * args.T + t) * args.H, ld = args.T * args.H;
    const auto prefetch = [&](const void* array) {
      prefetch_tile(static_cast<const T*>(array) + at, ld, rows, args.H);
    };
    for (int gate = 0; gate < kGates; ++gate)
      prefetch(static_cast<const T*>(args.gates) + gate * args.B * args.T * args.H);
    prefetch(args.cells);
    if (args.dy != nullptr) prefetch(args.dy);
  }

  // dz of one time step of one sequence. Stores it both in args.dz and in A.
  void cell_row(const Recurrence<T>& recurrence, i64 b, i64 r, i64 t) const {
    const i64 H = args.H, row = b * args.T + t;
    const auto from = [&](const void* array) { return static_cast<const T*>(array) + row * H; };
    const T* dy = args.dy == nullptr ? nullptr : from(args.dy);
    const T *c = from(args.cells), *c_prev = t > 0 ? c - H : static_cast<const T*>(args.c0) + b * H;
    const T *s_i = from(args.gates), *s_f = s_i + args.B * args.T * H, *s_g = s_f + args.B * args.T * H;
    const T* s_o = s_g + args.B * args.T * H;
    T* dz = static_cast<T*>(args.dz) + row * kGates * H;
    for (i64 j = 0; j < H; j += V::W) {
      const i64 n = minimum(V::W, H - j);
      const auto load = [&](const T* p) { return load_first<V>(p + j, n); };
      V dh = load(recurrence.dh(r)), dc = load(recurrence.dc(r));
      if (dy != nullptr) dh = load(dy) + dh;
      const LstmGates<V> gates{load(s_i), load(s_f), load(s_g), load(s_o)};
      const LstmGates<V> d = lstm_cell_backward(gates, load(c_prev), load(c), dh, dc);
      store_first(dc, n, recurrence.dc(r) + j);
      const auto store = [&](int gate, V v) {
        store_first(v, n, dz + gate * H + j);
        v.store(recurrence.a(gate, r, j));
      };
      store(0, d.i), store(1, d.f), store(2, d.g), store(3, d.o);
    }
  }

  // dx_t and dh_{t-1} of `rows` sequences, from row r of the band on.
  void time_step_gradients(const Recurrence<T>& recurrence, i64 first, i64 r, i64 rows, i64 t) const {
    if (args.dx != nullptr) {
      T* dx = static_cast<T*>(args.dx) + ((first + r) * args.T + t) * args.I;
      through_weight(recurrence, {x_masks_, recurrence.x_words(), 0, args.I}, {r, r + rows}, dx, args.T * args.I);
    }
    through_weight(recurrence, {h_masks_, recurrence.h_words(), h_column(), args.H}, {r, r + rows}, recurrence.dh(r),
                   recurrence.state_ld());
  }

  struct Weight {  // w_ih or w_hh: `cols` columns of B from `column` on, and the masks of its operand
    const TimeStepMasks<T>& masks;
    u32* words;
    i64 column, cols;
  };

  // out = sum over gates of drop_g(dz[g] weight[g])
  void through_weight(const Recurrence<T>& recurrence, const Weight& weight, Range rows, T* out, i64 ld) const {
    alignas(64) T tile[Tiling<T>::MR * NR];
    const bool by_gate = weight.masks.count() > 1;
    for (i64 j = 0; j < weight.cols; j += NR) {
      const Rect at{rows.begin, rows.size(), j, minimum(NR, weight.cols - j)};
      for (int gate = 0; gate < kGates; ++gate) {
        recurrence.multiply(gate, gate, {at.i, at.rows, weight.column + j, at.cols}, tile, !by_gate && gate > 0);
        if (by_gate || gate == kGates - 1) add_dropped(weight, by_gate ? gate : 0, at, tile, out + j, ld);
      }
    }
  }

  // out = drop(tile) for the first mask, out += drop(tile) for the others.
  FD_FN void add_dropped(const Weight& weight, int gate, const Rect& at, const T* tile, T* out, i64 ld) const {
    const TimeStepMasks<T>& masks = weight.masks;
    for (i64 i = 0; i < at.rows; ++i)
      for (i64 c = 0; c < at.cols; c += V::W) {
        const i64 n = minimum(V::W, at.cols - c);
        V v = V::load(tile + i * NR + c);
        if (!masks.keeps_all()) v = masks.drop(v, weight.words, gate, at.i + i, at.j + c);
        if (gate > 0) v = load_first<V>(out + i * ld + c, n) + v;
        store_first(v, n, out + i * ld + c);
      }
  }

  TimeStepMasks<T> x_masks_, h_masks_;
};

template <class T>
void lstm_backward_typed(const LstmBackwardArgs& args) {
  const BackwardRecurrence<T> job(args);
  run_bands<T>(job, job.recurrence(), args.B * args.T * kGates * args.H * (job.h_column() + args.H + 16));
  weight_gradients<T>(args);
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
