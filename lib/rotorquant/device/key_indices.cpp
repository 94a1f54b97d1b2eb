#include "rotorquant/device/key_indices.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "rotorquant/core/error.hpp"
#include "rotorquant/core/half.hpp"

namespace rotorquant::device {
namespace {

constexpr int widest_scalar_pair = 4, widest_trellis_pair = 3;
constexpr int table_alignment = 128;  // what a weight of the constant slots counts
constexpr int none = -1;

// Which coordinates, by storage position, are looked up alone and which together.
struct Grouping {
  std::vector<int> singles;
  std::vector<std::pair<int, int>> pairs;  // the second one may be of width 0
};

class Builder {
 public:
  explicit Builder(const CalibratedCodec& codec)
      : codec_(codec), planes_(codec.planes()), dim_(static_cast<int>(codec.dim())) {
    position_.resize(static_cast<std::size_t>(dim_));
    for (int i = 0; i < dim_; ++i)
      position_[static_cast<std::size_t>(planes_.order()[static_cast<std::size_t>(i)])] = i;
    for (int c = 0; c < dim_; ++c) {
      if (codec.widths()[static_cast<std::size_t>(c)] > 0)
        used_.push_back(position_[static_cast<std::size_t>(c)]);
    }
    rank_.assign(static_cast<std::size_t>(dim_), none);
    for (std::size_t r = 0; r < used_.size(); ++r)
      rank_[static_cast<std::size_t>(used_[r])] = static_cast<int>(r);
  }

  int width(int position) const {
    return codec_.widths()[static_cast<std::size_t>(planes_.order()[static_cast<std::size_t>(position)])];
  }

  // All coordinates that can be are in pairs.
  Grouping grouping() const {
    Grouping all;
    if (codec_.trellis() == nullptr) {
      // In storage order the widest come first.
      int i = 0;
      for (; i < dim_ && width(i) > widest_scalar_pair; ++i) all.singles.push_back(i);
      if (i % 2 == 1) all.singles.push_back(i++);
      for (; i < dim_; i += 2) all.pairs.emplace_back(i, i + 1);
      return all;
    }
    std::vector<int> alone, unused;
    for (std::size_t r = 0; r < used_.size(); ++r) {
      if (width(used_[r]) > widest_trellis_pair) {
        all.singles.push_back(used_[r]);
      } else if (r + 1 < used_.size() && width(used_[r + 1]) <= widest_trellis_pair) {
        all.pairs.emplace_back(used_[r], used_[r + 1]);
        ++r;
      } else {
        alone.push_back(used_[r]);
      }
    }
    for (int i = static_cast<int>(used_.size()); i < dim_; ++i) unused.push_back(i);
    while (!alone.empty() && !unused.empty()) {
      all.pairs.emplace_back(alone.back(), unused.back());
      alone.pop_back();
      unused.pop_back();
    }
    all.singles.insert(all.singles.end(), alone.begin(), alone.end());
    if (unused.size() % 2 == 1) {
      all.singles.push_back(unused.back());
      unused.pop_back();
    }
    for (std::size_t i = 0; i < unused.size(); i += 2) all.pairs.emplace_back(unused[i], unused[i + 1]);
    return all;
  }

  KeyIndices build(const IndexShape& shape) {
    shape_ = shape;
    Grouping all = grouping();
    while (static_cast<int>(all.singles.size()) < 16 * shape.single_steps) {
      const auto [first, second] = all.pairs.back();
      all.pairs.pop_back();
      all.singles.push_back(first);
      all.singles.push_back(second);
    }
    const int used = static_cast<int>(planes_.count_at_least(1));
    const int upper = static_cast<int>(planes_.bits()) - used;
    KeyIndices result;
    result.groups = twos() ? 1 : std::max(0, (upper - tail_bits + dim_ - 1) / dim_);
    result.tail_bit = used + (twos() ? static_cast<int>(planes_.count_at_least(2)) : result.groups * dim_);
    groups_ = result.groups;
    tail_bit_ = result.tail_bit;
    sums_.assign(static_cast<std::size_t>(shape.bytes(groups_)), 0);
    result.inner.resize(static_cast<std::size_t>(dim_));
    int inner = 0;
    for (const int position : all.singles) {
      result.inner[static_cast<std::size_t>(position)] = inner;
      put_single(shape.column_of(inner), position);
      ++inner;
    }
    for (const auto& [first, second] : all.pairs) {
      result.inner[static_cast<std::size_t>(first)] = inner;
      result.inner[static_cast<std::size_t>(second)] = inner + 1;
      put_pair(shape.column_of(inner), first, second);
      inner += 2;
    }
    for (const int sum : sums_) {
      if (sum > 255) throw Error("calibrated keys on a GPU: a weight of " + std::to_string(sum));
      result.weights.push_back(static_cast<std::uint8_t>(sum));
    }
    result.tables = std::move(tables_);
    return result;
  }

 private:
  bool trellis() const { return shape_.code == KeyCode::trellis; }
  bool twos() const { return shape_.code == KeyCode::scalar_twos; }
  float level(int width, int index) const {
    return trellis()
               ? codec_.trellis()->code().codebook().levels(width).values()[static_cast<std::size_t>(index)]
               : NormalLevels(width)[static_cast<std::uint8_t>(index)];
  }

  // Bit `bit` of the symbol at a position counts 2^power in a column; where a slot has two bits, that of the
  // next position twice as much.
  void count_bit(int column, int position, int bit, int power) {
    const SlotBits bits = slot_bits(shape_.code);
    int at = position;
    for (int k = 0; k < bit; ++k) at += static_cast<int>(planes_.count_at_least(k + 1));
    int slot = 0, place = 0;
    if (bit == 0) {
      slot = shape_.slot_of(shape_.plane_step(), at);
      place = bits.plane_place;
    } else if (at < tail_bit_) {
      const int upper = at - static_cast<int>(planes_.count_at_least(1));
      slot = shape_.slot_of(shape_.group_step(upper / dim_), upper % dim_);
      place = bits.upper_place;
    } else {
      slot = shape_.tail_slot(groups_, at - tail_bit_);
      place = bits.tail_place;
    }
    if (power < place) throw Error("calibrated keys on a GPU: a bit that counts too little");
    sums_[static_cast<std::size_t>(shape_.place(slot, column))] += 1 << (power - place);
  }
  // The six bits of the register at a rank, the nearest one first.
  void count_register(int column, int rank, int bits, int power) {
    const int used = static_cast<int>(used_.size());
    for (int i = 0; i < bits; ++i) {
      count_bit(column, used_[static_cast<std::size_t>(((rank - i) % used + used) % used)], 0, power + i);
    }
  }
  // Where the column's table begins: made by entry(index) unless there is one already.
  template <typename Entry>
  void set_table(int column, std::tuple<bool, int, int> kind, int entries, int entry_bytes,
                 const Entry& entry) {
    const auto [found, is_new] = begins_.try_emplace(kind, static_cast<int>(tables_.size()));
    if (is_new) {
      const std::size_t begin = tables_.size(), bytes = static_cast<std::size_t>(entries * entry_bytes);
      tables_.resize(begin + (bytes + table_alignment - 1) / table_alignment * table_alignment);
      for (int i = 0; i < entries; ++i) {
        const std::uint32_t value = entry(i);
        std::memcpy(&tables_[begin + static_cast<std::size_t>(i * entry_bytes)], &value,
                    static_cast<std::size_t>(entry_bytes));
      }
    }
    const int count = found->second / table_alignment;
    if (count > 2 * 255)
      throw Error("calibrated keys on a GPU: tables of " + std::to_string(tables_.size()) + " bytes");
    for (int i = 0; i < 2; ++i) {
      sums_[static_cast<std::size_t>(shape_.place(shape_.tail_slot(groups_, tail_bits + i), column))] =
          i == 0 ? std::min(count, 255) : std::max(count - 255, 0);
    }
  }
  std::uint32_t half(int width, int index) const { return float_to_half(level(width, index)); }

  // Of coordinates at an even position and at the next one, the first and the second: the index has their
  // bits 0, their bits 1, and then all others of the first and of the second. -1: not looked at.
  void put_twos(int column, bool single, int even, int first, int second) {
    constexpr int begin = 2;  // of an index in an address
    const int a = first < 0 ? 0 : width(first), b = second < 0 ? 0 : width(second), widest = std::max(a, b);
    for (int k = 0; k < std::min(widest, 2); ++k) count_bit(column, even, k, begin + 2 * k);
    const int of_first = std::max(a - 2, 0), of_second = std::max(b - 2, 0);
    for (int k = 0; k < of_first; ++k) count_bit(column, first, 2 + k, begin + 4 + k);
    for (int k = 0; k < of_second; ++k) count_bit(column, second, 2 + k, begin + 4 + of_first + k);
    const auto symbol = [&](int i, int w, int side, int upper) {
      return ((i >> side & 1) | (i >> (2 + side) & 1) << 1 | (i >> (4 + upper)) << 2) % (1 << w);
    };
    set_table(column, {single, a, b}, widest < 2 ? 4 : 16 << (of_first + of_second), 4, [&](int i) {
      const std::uint32_t low = first < 0 ? 0U : half(a, symbol(i, a, 0, 0));
      const std::uint32_t high = second < 0 ? 0U : half(b, symbol(i, b, 1, of_first));
      return single ? low | high : low | high << 16;
    });
  }

  void put_single(int column, int position) {
    const int w = width(position);
    if (twos()) {
      const bool odd = position % 2 != 0;
      return put_twos(column, true, position - (odd ? 1 : 0), odd ? none : position, odd ? position : none);
    }
    if (!trellis()) {
      for (int k = 0; k < w; ++k) count_bit(column, position, k, 2 + k);
      set_table(column, {true, w, 0}, 1 << w, 4, [&](int i) { return half(w, i); });
      return;
    }
    if (w == 0) return set_table(column, {true, 0, 0}, 1, 2, [](int) { return 0U; });
    count_register(column, rank_[static_cast<std::size_t>(position)], register_bits, 1);
    for (int k = 1; k < w; ++k) count_bit(column, position, k, register_bits + k);
    set_table(column, {true, w, 0}, 1 << (register_bits + w - 1), 2, [&](int i) { return half(w, i); });
  }

  void put_pair(int column, int first, int second) {
    const int a = width(first), b = width(second);
    if (twos()) return put_twos(column, false, first, first, second);
    if (!trellis()) {
      for (int k = 0; k < a; ++k) count_bit(column, first, k, 2 + k);
      for (int k = 0; k < b; ++k) count_bit(column, second, k, 2 + a + k);
      set_table(column, {false, a, b}, 1 << (a + b), 4,
                [&](int i) { return half(a, i % (1 << a)) | half(b, i >> a) << 16; });
      return;
    }
    if (a == 0) return set_table(column, {false, 0, 0}, 1, 4, [](int) { return 0U; });
    // A window of the registers of both; without a second one, the first one's register.
    const int window = b > 0 ? register_bits + 1 : register_bits;
    count_register(column, rank_[static_cast<std::size_t>(b > 0 ? second : first)], window, 2);
    // Upper bits begin at 2^9, which is not too little for where they are.
    constexpr int upper = 2 + register_bits + 1;
    for (int k = 1; k < a; ++k) count_bit(column, first, k, upper + k - 1);
    for (int k = 1; k < b; ++k) count_bit(column, second, k, upper + a - 1 + k - 1);
    set_table(column, {false, a, b}, 1 << (register_bits + 1 + a - 1 + std::max(b - 1, 0)), 4, [&](int i) {
      const int bits = i % (2 << register_bits), symbols = i >> (register_bits + 1);
      const int u = symbols % (1 << (a - 1)), v = symbols >> (a - 1);
      const int r = b > 0 ? bits >> 1 : bits % (1 << register_bits), s = bits % (1 << register_bits);
      return half(a, u << register_bits | r) | (b > 0 ? half(b, v << register_bits | s) << 16 : 0U);
    });
  }

  const CalibratedCodec& codec_;
  const MixedPlanes& planes_;
  int dim_, groups_ = 0, tail_bit_ = 0;
  IndexShape shape_{};
  std::vector<int> position_, used_, rank_;  // of a coordinate; positions in index order; of a position
  std::vector<int> sums_;                    // weights
  std::vector<std::uint8_t> tables_;
  std::map<std::tuple<bool, int, int>, int> begins_;
};

}  // namespace

KeyCode key_code(const CalibratedCodec& codec) {
  const MixedPlanes& planes = codec.planes();
  if (codec.trellis() != nullptr) return KeyCode::trellis;
  const std::int64_t others = planes.bits() - planes.count_at_least(1) - planes.count_at_least(2);
  return others <= tail_bits ? KeyCode::scalar_twos : KeyCode::scalar;
}

int single_steps(const CalibratedCodec& codec) {
  const int singles = static_cast<int>(Builder(codec).grouping().singles.size());
  return singles == 0 ? 0 : singles <= 32 ? 2 : static_cast<int>(codec.dim()) / 16;
}

KeyIndices key_indices(const CalibratedCodec& codec, const IndexShape& shape) {
  return Builder(codec).build(shape);
}

}  // namespace rotorquant::device
