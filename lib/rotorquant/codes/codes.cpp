#include "rotorquant/codes/codes.hpp"

#include "rotorquant/core/error.hpp"

namespace rotorquant {

CodeBuffer::CodeBuffer(const CodeLayout& layout) {
  if (layout.arrays.size() > max_code_arrays)
    throw Error("code layout: more than " + std::to_string(max_code_arrays) + " arrays");
  for (const CodeArray& array : layout.arrays) strides_.push_back(array.bytes_per_vector());
  storage_.resize(strides_.size());
}

std::int64_t CodeBuffer::bytes() const {
  std::int64_t total = 0;
  for (const auto& array : storage_) total += static_cast<std::int64_t>(array.size());
  return total;
}

Codes<Space::cpu> CodeBuffer::append(std::int64_t count) {
  const std::int64_t begin = count_;
  count_ += count;
  for (std::size_t a = 0; a < storage_.size(); ++a)
    storage_[a].resize(static_cast<std::size_t>(count_ * strides_[a]));
  return range(begin, count);
}

void CodeBuffer::append(const CodeBuffer& other) {
  for (std::size_t a = 0; a < storage_.size(); ++a) {
    storage_[a].insert(storage_[a].end(), other.storage_[a].begin(), other.storage_[a].end());
  }
  count_ += other.count_;
}

Codes<Space::cpu> CodeBuffer::range(std::int64_t begin, std::int64_t count) {
  Codes<Space::cpu> codes;
  for (std::size_t a = 0; a < storage_.size(); ++a)
    codes.arrays[a] = storage_[a].data() + begin * strides_[a];
  codes.count = count;
  return codes;
}

ConstCodes<Space::cpu> CodeBuffer::view() const {
  ConstCodes<Space::cpu> codes;
  for (std::size_t a = 0; a < storage_.size(); ++a) codes.arrays[a] = storage_[a].data();
  codes.count = count_;
  return codes;
}

}  // namespace rotorquant
