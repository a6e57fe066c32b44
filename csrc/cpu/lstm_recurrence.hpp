// lstm_recurrence: what both directions of the LSTM's time loop share: one thread's memory, its products and masks.
//
// A thread runs all time steps of a band of sequences before it turns to the next: sequences do not depend on each other, so
// no thread ever waits for another, and no result depends on how they are shared out. Each thread packs the weights for itself:
// 4H elements a column, of H columns forward and I + H back.
#pragma once

#include "core/lstm_args.hpp"
#include "cpu/kept.hpp"
#include "cpu/scratch.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class T>
constexpr i64 kBand = 4 * Tiling<T>::MR;  // sequences at a time: the weights come from L2 or L3 once for all of them

// The first n lanes, 0 in the others.
template <class V, class T>
FD_FN V load_first(const T* p, i64 n) {
  if (n == V::W) return V::load(p);
  T padded[V::W] = {};
  for (i64 c = 0; c < n; ++c) padded[c] = p[c];
  return V::load(padded);
}

// The masks of one operand of a step, for a band's rows: of h_{t-1} [., H] or of x_t [., I].
template <class T>
class StepMasks {
 public:
  StepMasks(const GateMasks& masks, i64 cols)
      : keeper_(masks.mask),
        count_(masks.count()),
        cols_(cols),
        room_(keep_room(divide_up(cols, kGroup))),
        scale_(static_cast<T>(keep_scale(masks.mask.threshold))) {}

  int count() const { return count_; }
  bool keeps_all() const { return keeper_.keeps_all(); }
  i64 bytes() const { return count_ * kBand<T> * room_ * static_cast<i64>(sizeof(u32)); }

  // Keep bits for step t; those of masks that are constant over time only at the first step of a loop.
  void draw(Range band, i64 steps, i64 t, bool first, u32* words) const {
    if (keeps_all() || (!first && keeper_.mask().repeat > 1)) return;
    for (int gate = 0; gate < count_; ++gate)
      for (i64 r = 0; r < band.size(); ++r)
        keeper_.row((band.begin + r) * steps + t, gate * cols_, divide_up(cols_, kGroup), row(words, gate, r));
  }

  // One pack of row r from column j on.
  template <class V>
  FD_FN V drop(V v, u32* words, int gate, i64 r, i64 j) const {
    const u32 bits = row(words, gate, r)[j / kGroup] >> (j % kGroup);
    return select(V::lanes(bits), v * V(scale_), V(T(0)));
  }

 private:
  FD_FN u32* row(u32* words, int gate, i64 r) const { return words + (gate * kBand<T> + r) * room_; }
  Keeper keeper_;
  int count_;
  i64 cols_, room_;
  T scale_;
};

// One thread's memory for products over H, one a gate: A [rows, H] a gate and B [H, width] a gate, and what backward carries.
template <class T>
class Recurrence {
 public:
  static constexpr int NR = Tiling<T>::NR;
  static constexpr i64 LDA = Tiling<T>::LDA, KC = Tiling<T>::KC;

  Recurrence(i64 H, i64 width, i64 x_words, i64 h_words) : H_(H), width_(round_up(width, NR)) {
    const auto add = [&](i64 count) { return layout_.add(count * static_cast<i64>(sizeof(T))); };
    add(kGates * divide_up(H, KC) * kBand<T> * LDA);
    panels_at_ = add(kGates * width_ * H);
    state_at_ = add(2 * kBand<T> * state_ld());
    x_words_at_ = layout_.add(x_words);
    h_words_at_ = layout_.add(h_words);
  }

  i64 size() const { return layout_.size(); }
  void use(char* memory) { memory_ = memory; }

  // Columns j .. j+cols-1 of gate g's B, j a multiple of NR: weight(k, c).
  void pack(int gate, i64 j, i64 cols, View<T> weight) { Packer<T>::panels(weight, H_, cols, panels(gate) + j * H_); }

  // Element (r, k) of a gate's A. Rows are cut where the register tile's fixed stride ends; 32 columns stay together.
  FD_FN T* a(int gate, i64 r, i64 k) const {
    const i64 block = gate * divide_up(H_, KC) + k / KC;
    return at<T>(0) + (block * kBand<T> + r) * LDA + k % KC;
  }

  // tile (+)= A B, `rows` rows from r on and up to NR columns from j on.
  void multiply(int a_gate, int gate, i64 r, i64 rows, i64 j, i64 cols, T* tile, bool resume) const {
    i64 k = 0;
    do {  // once for H = 0: the sums are empty, dx is not
      run_micro_tile<T, Order::by_rows>(static_cast<int>(rows), cols, minimum(KC, H_ - k), a(a_gate, r, k), LDA,
                                        panels(gate) + j * H_ + k * NR, tile, resume || k > 0);
      k += KC;
    } while (k < H_);
  }

  // Rows of H that backward carries from step to step, with room for whole strips.
  i64 state_ld() const { return round_up(H_, kGroup); }
  T* dh(i64 r) const { return at<T>(state_at_) + r * state_ld(); }
  T* dc(i64 r) const { return at<T>(state_at_) + (kBand<T> + r) * state_ld(); }

  u32* x_words() const { return at<u32>(x_words_at_); }
  u32* h_words() const { return at<u32>(h_words_at_); }

 private:
  template <class E>
  FD_FN E* at(i64 offset) const {
    return reinterpret_cast<E*>(memory_ + offset);
  }
  T* panels(int gate) const { return at<T>(panels_at_) + gate * width_ * H_; }

  i64 H_, width_;
  ScratchLayout layout_;
  i64 panels_at_ = 0, state_at_ = 0, x_words_at_ = 0, h_words_at_ = 0;
  char* memory_ = nullptr;
};

// visit(begin, size) for equal pieces of at most `most`: tiles of 32 rows become 11 + 11 + 10 rather than 14 + 14 + 4.
template <class Visit>
FD_FN void visit_equal(i64 begin, i64 end, i64 most, Visit visit) {
  const i64 size = divide_up(end - begin, maximum(1, divide_up(end - begin, most)));
  for (i64 i = begin; i < end; i += size) visit(i, minimum(size, end - i));
}

// Runs job.run_band(recurrence, band) for all sequences, each thread with a copy of `recurrence` and memory of its own.
template <class T, class Job>
void run_bands(const Job& job, const Recurrence<T>& recurrence, i64 work) {
  struct Shared {
    const Job& job;
    const Recurrence<T>& recurrence;
    int threads;
    char* const* memory;
  } shared{job, recurrence, static_cast<int>(maximum(1, minimum(threads_for(work), job.args.B))), nullptr};
  shared.memory = scratch(shared.threads, recurrence.size());
  run_threads(
      shared.threads,
      [](int thread, void* p) {
        const Shared& s = *static_cast<const Shared*>(p);
        const i64 B = s.job.args.B, begin = B * thread / s.threads, end = B * (thread + 1) / s.threads;
        Recurrence<T> mine = s.recurrence;
        mine.use(s.memory[thread]);
        s.job.pack(mine);
        visit_equal(begin, end, kBand<T>, [&](i64 b, i64 size) { s.job.run_band(mine, {b, b + size}); });
      },
      &shared);
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
