#include "evaluation/sweep/ranges.hpp"

#include <fmt/format.h>

#include <charconv>
#include <optional>
#include <set>

#include "rotorquant/core/error.hpp"
#include "rotorquant/quantizers/spec.hpp"

namespace rotorquant::evaluation {
namespace {

// A range of more numbers than this is a slip of the pen.
constexpr std::int64_t longest_range = 100'000;

std::optional<std::int64_t> parse_number(const std::string& text) {
  std::int64_t number = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (status != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace

std::vector<std::int64_t> parse_ranges(const std::string& text, const std::string& what, std::int64_t low,
                                       std::int64_t high) {
  std::vector<std::int64_t> numbers;
  std::set<std::int64_t> seen;
  for (const std::string& part : split(text, ',')) {
    const std::size_t dash = part.find('-', 1);  // a leading '-' is a sign
    const std::optional<std::int64_t> first = parse_number(part.substr(0, dash));
    const std::optional<std::int64_t> last =
        dash == std::string::npos ? first : parse_number(part.substr(dash + 1));
    if (!first || !last || *last < *first) {
      throw UsageError(
          fmt::format("{} '{}': '{}' is no number and no rising range; valid: such as 3 or 0-9 or 0,5-9",
                      what, text, part));
    }
    if (*first < low || *last > high) {
      throw UsageError(fmt::format("{} '{}': {} is out of range; valid: {} to {}", what, text,
                                   *first < low ? *first : *last, low, high));
    }
    if (*last - *first >= longest_range) {
      throw UsageError(fmt::format("{} '{}': more than {} numbers", what, text, longest_range));
    }
    for (std::int64_t number = *first; number <= *last; ++number) {
      if (seen.insert(number).second) numbers.push_back(number);
    }
  }
  return numbers;
}

}  // namespace rotorquant::evaluation
