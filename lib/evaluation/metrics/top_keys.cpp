#include "evaluation/metrics/top_keys.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "evaluation/metrics/lanes.hpp"

namespace rotorquant::evaluation {
namespace {

// Scores compared with the weakest selected one at once: few rows have a new entry in more than some of these
// groups.
constexpr std::int64_t group_size = 16;

std::size_t at(std::int32_t place) {
  return static_cast<std::size_t>(place);
}

template <typename Score>
class Selection {
 public:
  explicit Selection(const Score* scores) : scores_(scores) {}

  // Candidates come by ascending index, so that one equal to a selected key ranks behind it.
  void offer(std::int64_t candidate) {
    const Score score = scores_[candidate];
    if (top_.count == top_key_count && !(score > weakest())) return;
    std::int32_t place = top_.count < top_key_count ? top_.count++ : top_.count - 1;
    for (; place > 0 && score > scores_[top_.index[at(place - 1)]]; --place)
      top_.index[at(place)] = top_.index[at(place - 1)];
    top_.index[at(place)] = static_cast<std::int32_t>(candidate);
  }

  Score weakest() const { return scores_[top_.index[at(top_.count - 1)]]; }
  const TopKeys& result() const { return top_; }

 private:
  const Score* scores_;
  TopKeys top_;
};

// The vectors of lanes.hpp that have a lane for each of the keys and more.
template <typename Score>
struct VectorsOf;
template <>
struct VectorsOf<float> {
  using Scores = FloatLanes;
  using Counts = IntLanes;
};
template <>
struct VectorsOf<double> {
  using Scores = Lanes;
  using Counts = LongLanes;
};

// How many scores rank before each of the selected keys. There are no branches on scores, which could not be
// predicted.
template <typename Score>
class Ranks {
 public:
  // `scores` are those that rank.
  Ranks(const Score* scores, const TopKeys& top) {
    Score key_scores[lanes];
    std::int32_t key_index[lanes] = {};
    std::fill_n(key_scores, lanes, std::numeric_limits<Score>::quiet_NaN());  // nothing compares with NaN
    for (std::int32_t k = 0; k < top.count; ++k) {
      key_scores[k] = scores[top.index[at(k)]];
      key_index[k] = top.index[at(k)];
      weakest_ = key_scores[k] < weakest_ ? key_scores[k] : weakest_;
    }
    for (std::int32_t lane = 0; lane < lanes; ++lane) {
      key_scores_[lane] = key_scores[lane];
      key_index_[lane] = key_index[lane];
    }
  }

  // The scores [begin, end), at most a group. Few reach the weakest of the keys: they are put aside.
  void add(const Score* scores, std::int64_t begin, std::int64_t end) {
    gather(scores, begin, end);
    if (count_ + group_size > capacity) rank();
  }

  TopOverlap overlap() {
    rank();
    TopOverlap overlap;
    overlap.first = ranks_[0] == 0 && key_scores_[0] == key_scores_[0];
    const Counts found = (ranks_ < static_cast<std::int32_t>(top_key_count)) & (key_scores_ == key_scores_);
    for (std::int32_t k = 0; k < static_cast<std::int32_t>(top_key_count); ++k)
      overlap.common -= static_cast<std::int32_t>(found[k]);
    return overlap;
  }

 private:
  using Scores = typename VectorsOf<Score>::Scores;
  using Counts = typename VectorsOf<Score>::Counts;
  static constexpr std::int32_t lanes = sizeof(Scores) / sizeof(Score);
  static constexpr std::int64_t capacity = 256;

  void gather(const Score* scores, std::int64_t begin, std::int64_t end) {
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<Score, float>) {
      const auto seen = static_cast<__mmask16>((1U << (end - begin)) - 1U);
      const __m512 group = _mm512_maskz_loadu_ps(seen, scores + begin);
      const __mmask16 reach = _mm512_mask_cmp_ps_mask(seen, group, _mm512_set1_ps(weakest_), _CMP_GE_OQ);
      const __m512i index =
          _mm512_add_epi32(_mm512_set1_epi32(static_cast<std::int32_t>(begin)),
                           _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
      _mm512_storeu_ps(scores_ + count_, _mm512_maskz_compress_ps(reach, group));
      _mm512_storeu_si512(index_ + count_, _mm512_maskz_compress_epi32(reach, index));
      count_ += std::popcount(reach);
      return;
    }
#endif
    for (std::int64_t i = begin; i < end; ++i) {
      scores_[count_] = scores[i];
      index_[count_] = static_cast<std::int32_t>(i);
      count_ += scores[i] >= weakest_ ? 1 : 0;
    }
  }

  // Counts what was put aside. Equal scores are ordered by index.
  void rank() {
    Counts ranks = ranks_;
    for (std::int64_t i = 0; i < count_; ++i) {
      const Scores score = scores_[i] + Scores{};
      const Counts index = index_[i] + Counts{};
      ranks -= (score > key_scores_) | ((score == key_scores_) & (index < key_index_));
    }
    ranks_ = ranks;
    count_ = 0;
  }

  Scores key_scores_;
  Counts key_index_;
  Counts ranks_ = {};
  Score weakest_ = std::numeric_limits<Score>::infinity();
  std::int64_t count_ = 0;
  Score scores_[capacity];
  std::int32_t index_[capacity];
};

}  // namespace

template <typename Score>
TopKeys top_keys(const Score* scores, std::int64_t count) {
  Selection<Score> selection(scores);
  std::int64_t i = 0;
  for (; i < std::min(count, top_key_count); ++i) selection.offer(i);
  for (; i + group_size <= count; i += group_size) {
    const Score weakest = selection.weakest();
    std::int64_t above = 0;
    for (std::int64_t j = 0; j < group_size; ++j) above += scores[i + j] > weakest ? 1 : 0;
    if (above == 0) continue;
    for (std::int64_t j = 0; j < group_size; ++j) selection.offer(i + j);
  }
  for (; i < count; ++i) selection.offer(i);
  return selection.result();
}

template <typename Score>
TopOverlap top_overlap(const Score* scores, std::int64_t count, const TopKeys& top) {
  Ranks<Score> ranks(scores, top);
  for (std::int64_t begin = 0; begin < count; begin += group_size)
    ranks.add(scores, begin, std::min(begin + group_size, count));
  return ranks.overlap();
}

template TopKeys top_keys(const float* scores, std::int64_t count);
template TopKeys top_keys(const double* scores, std::int64_t count);
template TopOverlap top_overlap(const float* scores, std::int64_t count, const TopKeys& top);
template TopOverlap top_overlap(const double* scores, std::int64_t count, const TopKeys& top);

}  // namespace rotorquant::evaluation
