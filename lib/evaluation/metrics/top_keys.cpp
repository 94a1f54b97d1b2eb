#include "evaluation/metrics/top_keys.hpp"

#include <algorithm>

#include "evaluation/metrics/top_ranks.hpp"

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
