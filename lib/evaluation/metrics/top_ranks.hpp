#pragma once
// Where the eight keys that a row of exact scores selects rank in another row of scores over the same keys:
// all eight are compared with a score at once, and only with the few scores that reach the weakest of them.
#include <algorithm>
#include <cstdint>
#include <limits>

#include "evaluation/metrics/lanes.hpp"
#include "evaluation/metrics/top_keys.hpp"

namespace rotorquant::evaluation {

// The vectors of lanes.hpp that have a lane for each of the keys and more.
template <typename Score>
struct RankLanes;
template <>
struct RankLanes<float> {
  using Scores = FloatLanes;
  using Counts = IntLanes;
};
template <>
struct RankLanes<double> {
  using Scores = Lanes;
  using Counts = LongLanes;
};

// Score is float or double.
template <typename Score>
class TopRanks {
 public:
  // score_of(index) is the other row's score of a key.
  template <typename ScoreOf>
  TopRanks(const TopKeys& top, const ScoreOf& score_of) {
    Score scores[lanes];
    Index index[lanes] = {};
    std::fill_n(scores, lanes, std::numeric_limits<Score>::quiet_NaN());  // nothing compares with NaN
    for (std::int32_t k = 0; k < top.count; ++k) {
      const std::int32_t key = top.index[static_cast<std::size_t>(k)];
      scores[k] = score_of(key);
      index[k] = key;
      weakest_ = scores[k] < weakest_ ? scores[k] : weakest_;
    }
    std::memcpy(&scores_, scores, sizeof(scores_));
    std::memcpy(&index_, index, sizeof(index_));
  }

  // Scores below it rank behind all of the keys.
  Score weakest() const { return weakest_; }

  // Counts one score of the other row. Equal scores are ordered by index.
  void add(Score score, std::int32_t index) {
    const Scores scores = score + Scores{};
    const Counts indices = index + Counts{};
    ranks_ -= (scores > scores_) | ((scores == scores_) & (indices < index_));
  }

  // Once every score that reaches weakest() is counted.
  TopOverlap overlap() const {
    TopOverlap overlap;
    overlap.first = ranks_[0] == 0 && scores_[0] == scores_[0];
    const Counts found = (ranks_ < static_cast<Index>(top_key_count)) & (scores_ == scores_);
    for (std::int64_t k = 0; k < top_key_count; ++k) overlap.common -= static_cast<std::int32_t>(found[k]);
    return overlap;
  }

 private:
  using Scores = typename RankLanes<Score>::Scores;
  using Counts = typename RankLanes<Score>::Counts;
  using Index = std::remove_cvref_t<decltype(Counts{}[0])>;
  static constexpr std::int64_t lanes = sizeof(Scores) / sizeof(Score);

  Scores scores_;
  Counts index_;
  Counts ranks_ = {};
  Score weakest_ = std::numeric_limits<Score>::infinity();
};

}  // namespace rotorquant::evaluation
