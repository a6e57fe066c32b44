// workspace: the layout of one thread's scratch memory for a product: a block of A, the panels of B, partial sums and
// keep words. Where columns are left out, a piece of an operand is first gathered in the gather buffer.
#pragma once

#include "cpu/gemm/loops.hpp"
#include "cpu/runtime/scratch.hpp"

namespace fusedrop::cpu::FD_ISA {
namespace {

// Holds 32 rows that run along K, with row stride row_room, or rows of 32 columns, with row stride strip_room.
template <class S>
struct GatherBuffer {
  static constexpr i64 strip_room = kGroup + Vec<acc_t<S>>::W;
  S* data;
  i64 row_room;
};

template <class S>
class WorkspaceLayout {
 public:
  using T = acc_t<S>;
  WorkspaceLayout() = default;
  WorkspaceLayout(Order order, i64 cols, i64 K, bool compact) {
    block_sizes_ = block_sizes_for<S>(cols, K);
    const auto [k_steps, depth, width, band] = block_sizes_;
    const i64 strip_rows = maximum(Tiling<T>::MC, depth * Format<S>::pair);  // the most rows of a strip of keep bits
    add_elements((order == Order::by_rows ? Tiling<T>::MC * Tiling<T>::LDA : depth * Tiling<T>::MC) + Vec<T>::W);
    b_at_ = add_elements(width * depth);
    const bool sums_in_c = std::is_same_v<S, T> && !compact;
    sums_at_ = add_elements(sums_in_c || depth == k_steps ? 0 : band * width);
    words_at_ = layout_.add(mask_bits_room(strip_rows) * static_cast<i64>(sizeof(u32)));
    row_room_ = depth * Format<S>::pair + Vec<T>::W;
    const i64 gather_room = maximum(kGroup * row_room_, row_room_ * GatherBuffer<S>::strip_room);
    gather_at_ = layout_.add(compact ? gather_room * static_cast<i64>(sizeof(S)) : 0);
  }

  i64 size() const { return layout_.size(); }
  Workspace<T> workspace(char* memory) const {
    return {block_sizes_, reinterpret_cast<T*>(memory), reinterpret_cast<T*>(memory + b_at_),
            reinterpret_cast<T*>(memory + sums_at_)};
  }
  u32* words(char* memory) const { return reinterpret_cast<u32*>(memory + words_at_); }
  GatherBuffer<S> gather_buffer(char* memory) const { return {reinterpret_cast<S*>(memory + gather_at_), row_room_}; }

 private:
  i64 add_elements(i64 count) { return layout_.add(count * static_cast<i64>(sizeof(T))); }

  ScratchLayout layout_;
  BlockSizes block_sizes_;
  i64 b_at_ = 0, sums_at_ = 0, words_at_ = 0, gather_at_ = 0, row_room_ = 0;
};

}  // namespace
}  // namespace fusedrop::cpu::FD_ISA
