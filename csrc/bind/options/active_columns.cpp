// active_columns: see active_columns.hpp.
#include "bind/options/active_columns.hpp"

#include <string>

#include "arrays/numpy.hpp"

namespace fusedrop::bind {

using namespace arrays;
namespace {

// The 32 keep bits of a unit mask for columns j .. j+31.
u32 unit_word(const Mask& mask, i64 j) {
  if (mask.threshold == kThresholdAll) return 0;
  const u64 col = mask.col0 + static_cast<u64>(j);
  const u32 block = static_cast<u32>(col / kGroup), shift = static_cast<u32>(col % kGroup);
  const u32 word = keep_word(mask, kUnitRow, block);
  return shift == 0 ? word : word >> shift | keep_word(mask, kUnitRow, block + 1) << (kGroup - shift);
}

// The same of the argument active_inputs; the bits of columns beyond n are 0.
u32 active_word(const unsigned char* active, i64 j, i64 n) {
  u32 word = 0;
  for (i64 c = 0; c < kGroup && j + c < n; ++c) word |= static_cast<u32>(active[j + c] != 0) << c;
  return word;
}

}  // namespace

Array active_columns_array(const Call& call, const py::handle& value, i64 n) {
  const std::string name = "active_inputs";
  Array active = call.view(value, name.c_str(), "bool or None");
  const bool bytes = call.on_device() && active.type == kByte;
  if (active.type != kBoolean && !bytes)
    throw py::type_error(name + " must be " + (is_numpy(value) ? "a NumPy array of " : "") + "bool or None; got " +
                         type_name(active.type));
  if (active.shape != Dims{n})
    throw py::value_error(name + " must be [K] = " + shape_text({n}) + " to match x; got " + shape_text(active.shape));
  if (call.on_device() && !active.contiguous())
    throw py::value_error(name + " must be C-contiguous; got other strides");
  return call.on_device() ? active : contiguous(active);
}

ActiveColumnList::ActiveColumnList(const Mask& mask, const Array& active, i64 n) {
  const bool masked = mask.unit && mask.threshold != 0;
  if (!masked && !active) return;
  // Read as bytes: a bool array that is a view of bytes can hold other values than 0 and 1.
  const auto* bytes = static_cast<const unsigned char*>(active.data);
  auto lists = std::make_shared<Lists>();
  lists->index.reserve(static_cast<std::size_t>(n));
  for (i64 j = 0; j < n; j += kGroup) {
    u32 word = masked ? unit_word(mask, j) : ~0u;
    if (bytes != nullptr) word &= active_word(bytes, j, n);
    if (n - j < kGroup) word &= (u32{1} << (n - j)) - 1;
    lists->words.push_back(word);
    for (i64 c = 0; c < kGroup; ++c)
      if ((word >> c & 1) != 0) lists->index.push_back(j + c);
  }
  lists->words.push_back(0);  // the spare word
  lists_ = std::move(lists);
}

ActiveColumns ActiveColumnList::view() const {
  if (!lists_) return {};
  // A null pointer means "all columns", so an empty list needs another one.
  static const i64 none = 0;
  const i64* index = lists_->index.empty() ? &none : lists_->index.data();
  return {static_cast<i64>(lists_->index.size()), index, lists_->words.data()};
}

}  // namespace fusedrop::bind
