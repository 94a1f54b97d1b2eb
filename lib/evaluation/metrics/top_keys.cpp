#include "evaluation/metrics/top_keys.hpp"

#include <algorithm>
#include <cstring>
#include <functional>

#include "evaluation/metrics/top_ranks.hpp"

namespace rotorquant::evaluation {
namespace {

// Scores compared at once: few of these groups have a score that is selected.
constexpr std::int64_t group_size = 16;

std::size_t at(std::int32_t place) {
  return static_cast<std::size_t>(place);
}

template <typename Score>
class Group {
 public:
  explicit Group(const Score* scores) {
    for (std::int64_t part = 0; part < parts; ++part) scores_[part] = load_lanes(scores + part * lanes);
  }
  void copy_to(Score* scores) const { std::memcpy(scores, scores_, sizeof(scores_)); }

  void raise_to(const Group& other) {
    for (std::int64_t part = 0; part < parts; ++part)
      scores_[part] = choose(other.scores_[part] > scores_[part], other.scores_[part], scores_[part]);
  }
  bool reaches(Score least) const {
    Matches matches = {};
    for (std::int64_t part = 0; part < parts; ++part) matches = matches | (scores_[part] >= least);
    return any(matches);
  }

 private:
  using Scores = typename RankLanes<Score>::Scores;
  using Matches = typename RankLanes<Score>::Counts;
  static constexpr std::int64_t lanes = sizeof(Scores) / sizeof(Score);
  static constexpr std::int64_t parts = group_size / lanes;

  Scores scores_[parts];
};

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

// No selected score of [whole] is below it: the eighth of the largest scores of group_size interleaved parts,
// at least eight scores reach it. whole: a multiple of group_size, > 0.
template <typename Score>
Score least_selected(const Score* scores, std::int64_t whole) {
  static_assert(group_size >= top_key_count);
  Group<Score> largest(scores);
  for (std::int64_t i = group_size; i < whole; i += group_size) largest.raise_to(Group<Score>(scores + i));
  Score parts[group_size];
  largest.copy_to(parts);
  std::nth_element(parts, parts + top_key_count - 1, parts + group_size, std::greater<>());
  return parts[top_key_count - 1];
}

}  // namespace

template <typename Score>
TopKeys top_keys(const Score* scores, std::int64_t count) {
  Selection<Score> selection(scores);
  const std::int64_t whole = count / group_size * group_size;
  const Score least = whole > 0 ? least_selected(scores, whole) : Score{};
  std::int64_t i = 0;
  for (; i < whole; i += group_size) {
    if (!Group<Score>(scores + i).reaches(least)) continue;
    for (std::int64_t j = 0; j < group_size; ++j) {
      if (scores[i + j] >= least) selection.offer(i + j);
    }
  }
  for (; i < count; ++i) selection.offer(i);
  return selection.result();
}

// Rounding keeps order but where it makes scores equal: then index decides, and the row is searched.
TopKeys rounded_top_keys(const float* scores, std::int64_t count, const TopKeys& exact) {
  const float weakest = scores[exact.index[at(exact.count - 1)]];
  std::int32_t reaching = 0;
  for (std::int64_t i = 0; i < count; ++i) reaching += scores[i] >= weakest ? 1 : 0;
  bool distinct = reaching == exact.count;
  for (std::int32_t k = 1; k < exact.count; ++k)
    distinct &= scores[exact.index[at(k - 1)]] > scores[exact.index[at(k)]];
  return distinct ? exact : top_keys(scores, count);
}

TopOverlap top_overlap(const double* scores, std::int64_t count, const TopKeys& top) {
  TopRanks<double> ranks(top, [&](std::int32_t index) { return scores[index]; });
  for (std::int64_t i = 0; i < count; ++i) {
    if (scores[i] >= ranks.weakest()) ranks.add(scores[i], static_cast<std::int32_t>(i));
  }
  return ranks.overlap();
}

template TopKeys top_keys(const float* scores, std::int64_t count);
template TopKeys top_keys(const double* scores, std::int64_t count);

}  // namespace rotorquant::evaluation
