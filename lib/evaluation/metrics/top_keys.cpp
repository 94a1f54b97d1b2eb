#include "evaluation/metrics/top_keys.hpp"

#include <algorithm>

namespace rotorquant::evaluation {
namespace {

// Scores compared with the weakest selected one at once: few rows have a new entry in more than some of these
// groups.
constexpr std::int64_t group_size = 16;

class Selection {
 public:
  explicit Selection(const double* scores) : scores_(scores) {}

  // Candidates come by ascending index, so that one equal to a selected key ranks behind it.
  void offer(std::int64_t candidate) {
    const double score = scores_[candidate];
    if (top_.count == top_key_count && !(score > weakest())) return;
    std::int32_t place = top_.count < top_key_count ? top_.count++ : top_.count - 1;
    for (; place > 0 && score > scores_[top_.index[at(place - 1)]]; --place)
      top_.index[at(place)] = top_.index[at(place - 1)];
    top_.index[at(place)] = static_cast<std::int32_t>(candidate);
  }

  double weakest() const { return scores_[top_.index[at(top_.count - 1)]]; }
  const TopKeys& result() const { return top_; }

 private:
  static std::size_t at(std::int32_t place) { return static_cast<std::size_t>(place); }

  const double* scores_;
  TopKeys top_;
};

}  // namespace

TopKeys top_keys(const double* scores, std::int64_t count) {
  Selection selection(scores);
  std::int64_t i = 0;
  for (; i < std::min(count, top_key_count); ++i) selection.offer(i);
  for (; i + group_size <= count; i += group_size) {
    const double weakest = selection.weakest();
    std::int64_t above = 0;
    for (std::int64_t j = 0; j < group_size; ++j) above += scores[i + j] > weakest ? 1 : 0;
    if (above == 0) continue;
    for (std::int64_t j = 0; j < group_size; ++j) selection.offer(i + j);
  }
  for (; i < count; ++i) selection.offer(i);
  return selection.result();
}

std::int32_t common_keys(const TopKeys& a, const TopKeys& b) {
  std::int32_t common = 0;
  for (std::int32_t i = 0; i < a.count; ++i) {
    const auto* end = b.index.data() + b.count;
    common += std::find(b.index.data(), end, a.index[static_cast<std::size_t>(i)]) != end ? 1 : 0;
  }
  return common;
}

}  // namespace rotorquant::evaluation
