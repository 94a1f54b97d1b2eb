#include "evaluation/statistics/comparison_sentence.hpp"

#include <fmt/format.h>

namespace rotorquant::evaluation {
namespace {

// The two settings in the order in which the sentence names them.
struct Sides {
  std::string subject;
  std::string object;
  bool swapped = false;  // the baseline is the subject
  std::int64_t wins = 0;
};

// What the ratio is of.
std::string loss_name(const std::string& metric, Better better) {
  switch (better) {
    case Better::lower:
      return metric;
    case Better::higher:
      return "1 - " + metric;
    case Better::zero:
      return "|" + metric + "|";
    case Better::one:
      return "|" + metric + " - 1|";
  }
  return metric;
}

std::string ratio_text(double ratio) {
  return fmt::format("{:.3g}", ratio);
}

// "0.27x (95% interval 0.24 to 0.31) of turboquant's", or the difference where there is no ratio.
std::string size_text(const Comparison& c, const Sides& sides) {
  std::string interval;
  if (c.ratio) {
    if (const auto& ends = c.ratio_interval) {
      const double low = sides.swapped ? 1.0 / ends->high : ends->low;
      const double high = sides.swapped ? 1.0 / ends->low : ends->high;
      interval = fmt::format(" (95% interval {} to {})", ratio_text(low), ratio_text(high));
    }
    return fmt::format("{}x{} of {}'s", ratio_text(sides.swapped ? 1.0 / *c.ratio : *c.ratio), interval,
                       sides.object);
  }
  if (const auto& ends = c.difference_interval) {
    const double low = sides.swapped ? -ends->high : ends->low;
    const double high = sides.swapped ? -ends->low : ends->high;
    interval = fmt::format(" (95% interval {:+.3g} to {:+.3g})", low, high);
  }
  return fmt::format("{:+.3g}{} from {}'s", sides.swapped ? -c.difference : c.difference, interval,
                     sides.object);
}

// "its attention/kl is 0.27x (95% interval 0.24 to 0.31) of rotorquant's, better in 9 of 9 heads"
std::string numbers(const Comparison& c, const SentenceFacts& facts, const Sides& sides, const char* owner) {
  const std::string name = c.ratio ? loss_name(c.metric, facts.better) : c.metric;
  return fmt::format("{} {} is {}, better in {} of {} head{}", owner, name, size_text(c, sides), sides.wins,
                     c.num_cells, c.num_cells == 1 ? "" : "s");
}

std::string reason(const Comparison& c) {
  if (c.gate == "isotropic")
    return "keys and values are isotropic, where every rotation has the same expected error";
  if (c.gate == "fitted on this dump") return "the transforms were fitted on this very dump";
  if (c.gate == "unequal side data") {
    return fmt::format("sinks and shifts take {:.3g} bits a value of {} and {:.3g} of {}",
                       c.candidate_side_bits_per_value, c.candidate, c.baseline_side_bits_per_value,
                       c.baseline);
  }
  if (c.gate == "single seed") return "one seed gives no interval";
  const bool more = c.candidate_bits_per_value > c.baseline_bits_per_value;
  return fmt::format("{} stores {:.4g} bits a value, {:.3g} {} than {}'s {:.4g}", c.candidate,
                     c.candidate_bits_per_value,
                     more ? c.candidate_bits_per_value - c.baseline_bits_per_value
                          : c.baseline_bits_per_value - c.candidate_bits_per_value,
                     more ? "more" : "less", c.baseline, c.baseline_bits_per_value);
}

}  // namespace

std::string comparison_sentence(const Comparison& c, const SentenceFacts& facts) {
  const Sides candidate_first{c.candidate, c.baseline, false, facts.candidate_wins};
  const Sides baseline_first{c.baseline, c.candidate, true, facts.baseline_wins};
  const std::string owner = c.candidate + "'s";
  switch (c.verdict) {
    case Verdict::candidate_better:
      return fmt::format("{} is better: {}", c.candidate, numbers(c, facts, candidate_first, "its"));
    case Verdict::baseline_better:
      return fmt::format("{} is better: {}", c.baseline, numbers(c, facts, baseline_first, "its"));
    case Verdict::no_significant_difference:
      if (facts.summaries_disagree) {
        return fmt::format(
            "no clear winner: {}, but the mean over heads says the opposite ({:.3g} against {:.3g})",
            numbers(c, facts, candidate_first, owner.c_str()), c.candidate_mean, c.baseline_mean);
      }
      return fmt::format("no significant difference: {}", numbers(c, facts, candidate_first, owner.c_str()));
    case Verdict::no_ranking:
      return fmt::format("no ranking: {}; {}", reason(c), numbers(c, facts, candidate_first, owner.c_str()));
  }
  return "";
}

}  // namespace rotorquant::evaluation
