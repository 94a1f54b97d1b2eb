#include "evaluation/metrics/top_keys.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "evaluation/metrics/lanes.hpp"

namespace rotorquant::evaluation {
namespace {

// Scores compared with the weakest selected one at once: few rows have a new entry in more than some of these
// groups.
constexpr std::int64_t group_size = 16;

// The vectors of lanes.hpp by what they hold.
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
template <typename Score>
using ScoreLanes = typename VectorsOf<Score>::Scores;
template <typename Score>
using CountLanes = typename VectorsOf<Score>::Counts;
template <typename Score>
constexpr std::int64_t lanes_of = sizeof(ScoreLanes<Score>) / sizeof(Score);

template <typename Score>
ScoreLanes<Score> load_scores(const Score* scores) {
  ScoreLanes<Score> lanes;
  std::memcpy(&lanes, scores, sizeof(lanes));
  return lanes;
}

// `before` in the lanes before `lane`, `after` in the others.
template <typename Score>
ScoreLanes<Score> split_lanes(Score before, Score after, std::int64_t lane) {
  Score values[2 * lanes_of<Score>];
  std::fill_n(values, lanes_of<Score>, before);
  std::fill_n(values + lanes_of<Score>, lanes_of<Score>, after);
  return load_scores(values + lanes_of<Score> - lane);
}

// Halved until one is left: as many steps as a lane's index has bits.
std::int64_t sum_of(const IntLanes& x) {
  using Half = std::int32_t __attribute__((vector_size(32)));
  using Quarter = std::int32_t __attribute__((vector_size(16)));
  const Half half = __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7) +
                    __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15);
  const Quarter quarter =
      __builtin_shufflevector(half, half, 0, 1, 2, 3) + __builtin_shufflevector(half, half, 4, 5, 6, 7);
  return (quarter[0] + quarter[1]) + (quarter[2] + quarter[3]);
}

std::int64_t sum_of(const LongLanes& x) {
  std::int64_t total = 0;
  for (std::int64_t lane = 0; lane < lane_count; ++lane) total += x[lane];
  return total;
}

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
  constexpr Score infinity = std::numeric_limits<Score>::infinity();
  const std::int64_t whole = count / lanes_of<Score> * lanes_of<Score>;
  ScoreLanes<Score> rest = -infinity + ScoreLanes<Score>{};
  std::memcpy(&rest, scores + whole, static_cast<std::size_t>(count - whole) * sizeof(Score));
  TopOverlap overlap;
  for (std::int32_t i = 0; i < top.count; ++i) {
    const std::int64_t key = top.index[at(i)];
    const Score score = scores[key];
    if (std::isnan(score)) continue;
    // Equal scores are ordered by index: before the key, what reaches its score is above it.
    const Score reaching = std::nextafter(score, -infinity);
    const std::int64_t own = key / lanes_of<Score> * lanes_of<Score>;
    CountLanes<Score> above = {};  // -1 for each
    std::int64_t j = 0;
    for (; j < own; j += lanes_of<Score>) above += load_scores(scores + j) > reaching;
    if (j < whole) {
      above += load_scores(scores + j) > split_lanes(reaching, score, key - own);
      for (j += lanes_of<Score>; j < whole; j += lanes_of<Score>) above += load_scores(scores + j) > score;
      above += rest > score;
    } else {
      above += rest > split_lanes(reaching, score, key - own);
    }
    const std::int64_t rank = -sum_of(above);
    overlap.first = overlap.first || (i == 0 && rank == 0);
    overlap.common += rank < top_key_count ? 1 : 0;
  }
  return overlap;
}

template TopKeys top_keys(const float* scores, std::int64_t count);
template TopKeys top_keys(const double* scores, std::int64_t count);
template TopOverlap top_overlap(const float* scores, std::int64_t count, const TopKeys& top);
template TopOverlap top_overlap(const double* scores, std::int64_t count, const TopKeys& top);

}  // namespace rotorquant::evaluation
