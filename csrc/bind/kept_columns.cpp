// kept_columns: see kept_columns.hpp.
#include "bind/kept_columns.hpp"

#include <string>

#include "bind/text.hpp"

namespace fusedrop::bind {
namespace {

// 32 keep bits of a unit mask, from column j on.
u32 unit_word(const Mask& mask, i64 j) {
  if (mask.threshold == kThresholdAll) return 0;
  const u64 col = mask.col0 + static_cast<u64>(j);
  const u32 block = static_cast<u32>(col / kGroup), shift = static_cast<u32>(col % kGroup);
  const u32 word = keep_word(mask, kUnitRow, block);
  return shift == 0 ? word : word >> shift | keep_word(mask, kUnitRow, block + 1) << (kGroup - shift);
}

u32 known_word(const unsigned char* known, i64 j, i64 n) {
  u32 word = 0;
  for (i64 c = 0; c < kGroup && j + c < n; ++c) word |= static_cast<u32>(known[j + c] != 0) << c;
  return word;
}

}  // namespace

py::object kept_columns_array(const py::handle& value, py::ssize_t n) {
  const std::string name = "kept_inputs";
  if (value.is_none()) return py::none();
  if (!py::isinstance<py::array_t<bool>>(value))
    throw py::type_error(
        name + " must be a NumPy array of bool or None; got " +
        (py::isinstance<py::array>(value) ? dtype_text(py::reinterpret_borrow<py::array>(value)) : type_text(value)));
  const auto given = py::reinterpret_borrow<py::array>(value);
  if (given.ndim() != 1 || given.shape(0) != n)
    throw py::value_error(name + " must be [K] = " + shape_text({n}) + " to match x; got " + shape_text(given));
  return py::array_t<bool, py::array::c_style | py::array::forcecast>(given);
}

KeptColumns::KeptColumns(const Mask& mask, const py::object& known, i64 n) {
  const bool masked = mask.unit && mask.threshold != 0;
  if (!masked && known.is_none()) return;
  // A view of bytes as bool may hold more than 0 and 1.
  const auto* allowed = known.is_none() ? nullptr : static_cast<const unsigned char*>(py::array(known).data());
  auto lists = std::make_shared<Lists>();
  lists->index.reserve(static_cast<std::size_t>(n));
  for (i64 j = 0; j < n; j += kGroup) {
    u32 word = masked ? unit_word(mask, j) : ~0u;
    if (allowed != nullptr) word &= known_word(allowed, j, n);
    if (n - j < kGroup) word &= (u32{1} << (n - j)) - 1;
    lists->words.push_back(word);
    for (i64 c = 0; c < kGroup; ++c)
      if ((word >> c & 1) != 0) lists->index.push_back(j + c);
  }
  lists->words.push_back(0);
  lists_ = std::move(lists);
}

Kept KeptColumns::view() const {
  if (!lists_) return {};
  // A list that keeps nothing is a list all the same: its pointer must not be null.
  static const i64 none = 0;
  const i64* index = lists_->index.empty() ? &none : lists_->index.data();
  return {static_cast<i64>(lists_->index.size()), index, lists_->words.data()};
}

py::object KeptColumns::array(i64 n) const {
  if (!lists_) return py::none();
  py::array_t<bool> kept(n);
  bool* out = kept.mutable_data();
  for (i64 j = 0; j < n; ++j) out[j] = (lists_->words[static_cast<std::size_t>(j / kGroup)] >> (j % kGroup) & 1) != 0;
  return std::move(kept);
}

}  // namespace fusedrop::bind
