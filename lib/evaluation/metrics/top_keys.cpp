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

// How many scores rank before each of the selected keys.
template <typename Score>
class Ranks {
 public:
  // `scores` are those that rank.
  Ranks(const Score* scores, const TopKeys& top) {
    for (std::int32_t k = 0; k < top.count; ++k) {
      key_scores_[k] = scores[top.index[at(k)]];
      key_index_[k] = top.index[at(k)];
      if (key_scores_[k] < weakest_) weakest_ = key_scores_[k];
    }
  }

  // The scores [begin, end), at most a group. Few reach the weakest of the keys: they are put aside.
  void add(const Score* scores, std::int64_t begin, std::int64_t end) {
    gather(scores, begin, end);
    if (count_ + group_size > capacity) rank();
  }

  TopOverlap overlap(const TopKeys& top) {
    rank();
    TopOverlap overlap;
    for (std::int32_t k = 0; k < top.count; ++k) {
      if (std::isnan(key_scores_[k])) continue;
      overlap.first = overlap.first || (k == 0 && ranks_[k] == 0);
      overlap.common += ranks_[k] < top_key_count ? 1 : 0;
    }
    return overlap;
  }

 private:
  using Scores = typename VectorsOf<Score>::Scores;
  using Counts = typename VectorsOf<Score>::Counts;
  static constexpr std::int64_t capacity = 128;

  void gather(const Score* scores, std::int64_t begin, std::int64_t end) {
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<Score, float>) {
      const auto lanes = static_cast<__mmask16>((1U << (end - begin)) - 1U);
      const __m512 group = _mm512_maskz_loadu_ps(lanes, scores + begin);
      const __mmask16 reach = _mm512_mask_cmp_ps_mask(lanes, group, _mm512_set1_ps(weakest_), _CMP_GE_OQ);
      if (reach == 0) return;
      const __m512i index =
          _mm512_add_epi32(_mm512_set1_epi32(static_cast<std::int32_t>(begin)),
                           _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
      _mm512_storeu_ps(scores_ + count_, _mm512_maskz_compress_ps(reach, group));
      _mm512_storeu_si512(index_ + count_, _mm512_maskz_compress_epi32(reach, index));
      count_ += std::popcount(reach);
      return;
    }
#endif
    std::int64_t found = 0;
    for (std::int64_t i = begin; i < end; ++i) found += scores[i] >= weakest_ ? 1 : 0;
    for (std::int64_t i = begin; found > 0 && i < end; ++i) {
      if (!(scores[i] >= weakest_)) continue;
      scores_[count_] = scores[i];
      index_[count_++] = static_cast<std::int32_t>(i);
    }
  }

  // Counts what was put aside. Equal scores are ordered by index.
  void rank() {
    for (std::int64_t i = 0; i < count_; ++i) {
      const Scores score = scores_[i] + Scores{};
      const Counts index = index_[i] + Counts{};
      ranks_ -= (score > key_scores_) | ((score == key_scores_) & (index < key_index_));
    }
    count_ = 0;
  }

  Scores key_scores_ = std::numeric_limits<Score>::quiet_NaN() + Scores{};  // nothing compares with NaN
  Counts key_index_ = {};
  Counts ranks_ = {};
  Score weakest_ = std::numeric_limits<Score>::infinity();
  Score scores_[capacity];
  std::int32_t index_[capacity];
  std::int64_t count_ = 0;
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
  return ranks.overlap(top);
}

template TopKeys top_keys(const float* scores, std::int64_t count);
template TopKeys top_keys(const double* scores, std::int64_t count);
template TopOverlap top_overlap(const float* scores, std::int64_t count, const TopKeys& top);
template TopOverlap top_overlap(const double* scores, std::int64_t count, const TopKeys& top);

}  // namespace rotorquant::evaluation
