// buffers: how one thread's scratch memory is laid out for a product: a block of A, B's panels, partial sums, keep words,
// and where columns are left out, the place where a piece of an operand is gathered before it is packed.
#pragma once

#include "cpu/gemm.hpp"
#include "cpu/scratch.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

template <class S>
class BufferLayout {
 public:
  using T = sum_of<S>;
  BufferLayout() = default;
  BufferLayout(Order order, i64 cols, i64 K, bool compact) {
    blocking_ = blocking_of<S>(cols, K);
    const auto [steps, depth, width, band] = blocking_;
    const i64 rows_at_once = maximum(Tiling<T>::MC, depth * Format<S>::pair);  // of a keep strip, in any packing
    add_elements((order == Order::by_rows ? Tiling<T>::MC * Tiling<T>::LDA : depth * Tiling<T>::MC) + Vec<T>::W);
    b_at_ = add_elements(width * depth);
    const bool sums_in_c = std::is_same_v<S, T> && !compact;
    sums_at_ = add_elements(sums_in_c || depth == steps ? 0 : band * width);
    words_at_ = layout_.add(keep_room(rows_at_once) * static_cast<i64>(sizeof(u32)));
    row_room_ = depth * Format<S>::pair + Vec<T>::W;
    const i64 gathered = maximum(kGroup * row_room_, row_room_ * kGathered);
    gathered_at_ = layout_.add(compact ? gathered * static_cast<i64>(sizeof(S)) : 0);
  }

  i64 size() const { return layout_.size(); }
  Buffers<T> buffers(char* memory) const {
    return {blocking_, reinterpret_cast<T*>(memory), reinterpret_cast<T*>(memory + b_at_),
            reinterpret_cast<T*>(memory + sums_at_)};
  }
  u32* words(char* memory) const { return reinterpret_cast<u32*>(memory + words_at_); }
  // A strip of 32 rows along K, row_room() apart, or of rows of 32 columns, kGathered apart.
  S* gathered(char* memory) const { return reinterpret_cast<S*>(memory + gathered_at_); }
  i64 row_room() const { return row_room_; }
  static constexpr i64 kGathered = kGroup + Vec<T>::W;

 private:
  i64 add_elements(i64 count) { return layout_.add(count * static_cast<i64>(sizeof(T))); }

  ScratchLayout layout_;
  Blocking blocking_;
  i64 b_at_ = 0, sums_at_ = 0, words_at_ = 0, gathered_at_ = 0, row_room_ = 0;
};

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
