#include "rotorquant/core/error.hpp"

#include <algorithm>
#include <numeric>

namespace rotorquant {
namespace {

// Levenshtein distance by rows.
std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substitute = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row.back();
}

}  // namespace

std::string nearest_hint(const std::string& name, const std::vector<std::string>& candidates) {
  std::size_t best = std::string::npos;
  const std::string* nearest = nullptr;
  for (const std::string& candidate : candidates) {
    const std::size_t distance = edit_distance(name, candidate);
    if (distance < best) {
      best = distance;
      nearest = &candidate;
    }
  }
  // Further than half of the word apart, a suggestion would be a guess.
  if (nearest == nullptr || best > std::max<std::size_t>(2, name.size() / 2)) return "";
  return "; did you mean '" + *nearest + "'?";
}

}  // namespace rotorquant
