// recurrence: the parts that the forward and the backward time loop of the LSTM share: the memory, products and masks
// of one thread.
//
// A thread runs all time steps of a band of sequences, then those of the next band. Sequences are independent of each
// other, so threads never wait for each other, and results do not depend on how sequences are split among threads. Each
// thread packs the weights for itself: H columns forward and I + H columns backward, each of 4H elements.
#pragma once

#include "core/params/lstm.hpp"
#include "cpu/gemm/active_columns.hpp"
#include "cpu/gemm/tiles.hpp"
#include "cpu/runtime/scratch.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class T>
constexpr i64 kBand = 4 * Tiling<T>::MR;  // sequences of a band: they share one read of the weights from L2 or L3

// Loads the first n lanes; the other lanes are 0.
template <class V, class T>
FD_FN V load_first(const T* p, i64 n) {
  if (n == V::W) return V::load(p);
  T padded[V::W] = {};
  for (i64 c = 0; c < n; ++c) padded[c] = p[c];
  return V::load(padded);
}

// The masks of one operand in a time step, for the rows of a band: of h_{t-1} [., H] or of x_t [., I].
template <class T>
class TimeStepMasks {
 public:
  TimeStepMasks(const GateMasks& masks, i64 cols)
      : mask_bits_(masks.mask),
        count_(masks.count()),
        cols_(cols),
        room_(mask_bits_room(divide_up(cols, kGroup))),
        scale_(static_cast<T>(keep_scale(masks.mask.threshold))) {}

  int count() const { return count_; }
  bool keeps_all() const { return mask_bits_.keeps_all(); }
  i64 bytes() const { return count_ * kBand<T> * room_ * static_cast<i64>(sizeof(u32)); }

  // Draws the keep bits for time step t. Masks that are constant over time are drawn only in the first iteration of a
  // time loop.
  void draw(Range band, i64 time_steps, i64 t, bool first, u32* words) const {
    if (keeps_all() || (!first && mask_bits_.mask().repeat > 1)) return;
    for (int gate = 0; gate < count_; ++gate)
      for (i64 r = 0; r < band.size(); ++r)
        mask_bits_.row((band.begin + r) * time_steps + t, gate * cols_, divide_up(cols_, kGroup), row(words, gate, r));
  }

  // Dropout of one vector: row r, from column j on.
  template <class V>
  FD_FN V drop(V v, u32* words, int gate, i64 r, i64 j) const {
    const u32 bits = row(words, gate, r)[j / kGroup] >> (j % kGroup);
    return select(V::lanes(bits), v * V(scale_), V(T(0)));
  }

 private:
  FD_FN u32* row(u32* words, int gate, i64 r) const { return words + (gate * kBand<T> + r) * room_; }
  MaskBits mask_bits_;
  int count_;
  i64 cols_, room_;
  T scale_;
};

// The memory of one thread for products over H, one per gate: for each gate A [rows, H] and B [H, width]. It also holds
// the gradients dh and dc that backward carries from one time step to the next.
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

  // Packs weight(k, c) into columns [j, j+cols) of the B of one gate; j is a multiple of NR.
  void pack(int gate, i64 j, i64 cols, View<T> weight) { Packer<T>::panels(weight, H_, cols, panels(gate) + j * H_); }

  // Element (r, k) of the A of one gate. A row is cut into pieces of KC elements, because the register tile reads A
  // with the fixed row stride LDA. KC is a multiple of 32, so a group of 32 columns is never cut.
  FD_FN T* a(int gate, i64 r, i64 k) const {
    const i64 block = gate * divide_up(H_, KC) + k / KC;
    return at<T>(0) + (block * kBand<T> + r) * LDA + k % KC;
  }

  // tile = A B for one tile `at`, or tile += A B with resume. A and B are those of two gates.
  void multiply(int a_gate, int b_gate, const Rect& at, T* tile, bool resume) const {
    i64 k = 0;
    do {  // runs once for H = 0: the sums are 0, but dx must be written
      const T* panel = panels(b_gate) + at.j * H_ + k * NR;
      multiply_tiles<T, Order::by_rows>({minimum(KC, H_ - k), a(a_gate, at.i, k), LDA, panel, 0},
                                        {0, at.rows, 0, at.cols}, StoredTiles<T>{tile, 0, resume || k > 0});
      k += KC;
    } while (k < H_);
  }

  // Row stride of dh and dc: room for whole strips.
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

// Calls visit(begin, size) for pieces of equal size, at most max_size: 32 rows become tiles of 11 + 11 + 10 rows and
// not 14 + 14 + 4.
template <class Visit>
FD_FN void visit_equal(i64 begin, i64 end, i64 max_size, Visit visit) {
  const i64 size = divide_up(end - begin, maximum(1, divide_up(end - begin, max_size)));
  for (i64 i = begin; i < end; i += size) visit(i, minimum(size, end - i));
}

// Runs job.run_band(recurrence, band) for all sequences. Each thread has its own copy of `recurrence` and memory.
template <class T, class Job>
void run_bands(const Job& job, const Recurrence<T>& recurrence, i64 work) {
  const i64 B = job.args.B;
  const int threads = static_cast<int>(maximum(1, minimum(threads_for(work), B)));
  char* const* memory = scratch(threads, recurrence.size());
  parallel_for(threads, [&](int thread) {
    const i64 begin = B * thread / threads, end = B * (thread + 1) / threads;
    Recurrence<T> thread_recurrence = recurrence;
    thread_recurrence.use(memory[thread]);
    job.pack(thread_recurrence);
    visit_equal(begin, end, kBand<T>, [&](i64 b, i64 size) { job.run_band(thread_recurrence, {b, b + size}); });
  });
}

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
