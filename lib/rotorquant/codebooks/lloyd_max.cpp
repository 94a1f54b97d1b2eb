#include "rotorquant/codebooks/lloyd_max.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "rotorquant/codebooks/coordinate_law.hpp"
#include "rotorquant/core/dispatch.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant {
namespace {

// Newton stops when no level moves by more than this share of the standard deviation: rounding level of
// float64.
constexpr double stationary_step = 1e-14;
// Below this share Newton converges quadratically: a step that does not shrink any more is rounding. The
// sphere law of a large dimension, a long recurrence, rounds before stationary_step.
constexpr double quadratic_step = 1e-7;
constexpr int max_iterations = 500;

// The positive half of a symmetric quantizer: levels c[0] < c[1] < ..., cell i between the midpoints around
// c[i], the first cell starting at 0. Stationary where every level is the centroid of its cell.
class HalfQuantizer {
 public:
  HalfQuantizer(const CoordinateLaw& law, std::size_t levels) : law_(law), levels_(levels) {
    // Equal steps over the bulk of the law, which grows by half a standard deviation a bit: ordered, inside
    // the support, and every cell with mass.
    const double bits = std::log2(2.0 * static_cast<double>(levels));
    const double reach = std::min(law.support(), law.standard_deviation() * (1.0 + 0.5 * bits));
    for (std::size_t i = 0; i < levels; ++i) {
      levels_[i] = reach * (static_cast<double>(i) + 0.5) / static_cast<double>(levels);
    }
  }

  std::vector<double> solve() {
    // A few fixed-point steps (Lloyd's method I) first: they cannot leave the region of ordered levels.
    constexpr int fixed_point_steps = 30;
    for (int step = 0; step < fixed_point_steps; ++step) levels_ = centroids();
    double previous = std::numeric_limits<double>::infinity();
    for (int step = 0; step < max_iterations; ++step) {
      std::vector<double> move = newton_move();
      // Half a step less as long as the levels would cross one another or leave the support.
      while (!is_ordered_after(move)) {
        for (double& m : move) m *= 0.5;
      }
      double largest = 0.0;
      for (std::size_t i = 0; i < move.size(); ++i) {
        levels_[i] += move[i];
        largest = std::max(largest, std::abs(move[i]));
      }
      const double share = largest / law_.standard_deviation();
      if (share <= stationary_step || (share <= quadratic_step && share >= previous)) break;
      previous = share;
    }
    return levels_;
  }

 private:
  double lower(std::size_t i) const { return i == 0 ? 0.0 : 0.5 * (levels_[i - 1] + levels_[i]); }
  double upper(std::size_t i) const {
    return i + 1 == levels_.size() ? law_.support() : 0.5 * (levels_[i] + levels_[i + 1]);
  }

  std::vector<double> centroids() const {
    std::vector<double> means(levels_.size());
    for (std::size_t i = 0; i < levels_.size(); ++i) {
      const double mass = law_.mass(lower(i), upper(i));
      const double moment = law_.first_moment(lower(i), upper(i));
      means[i] = mass > 0.0 ? moment / mass : levels_[i];
    }
    return means;
  }

  bool is_ordered_after(const std::vector<double>& move) const {
    double previous = 0.0;
    for (std::size_t i = 0; i < move.size(); ++i) {
      const double level = levels_[i] + move[i];
      if (!(level > previous)) return false;
      previous = level;
    }
    return previous <= law_.support();
  }

  // Solves F(c) = c - centroid(c) = 0; the Jacobian is tridiagonal because a cell depends on its neighbours
  // alone: d centroid / d bound = +-p(bound) (bound - centroid) / mass, and a bound moves half as far as
  // either level.
  std::vector<double> newton_move() const {
    const std::size_t n = levels_.size();
    const std::vector<double> means = centroids();
    std::vector<double> below(n, 0.0), diagonal(n, 1.0), above(n, 0.0), residual(n);
    for (std::size_t i = 0; i < n; ++i) {
      residual[i] = levels_[i] - means[i];
      const double mass = law_.mass(lower(i), upper(i));
      if (!(mass > 0.0)) continue;
      if (i > 0) {
        const double slope = 0.5 * law_.density(lower(i)) * (means[i] - lower(i)) / mass;
        below[i] = -slope;
        diagonal[i] -= slope;
      }
      if (i + 1 < n) {
        const double slope = 0.5 * law_.density(upper(i)) * (upper(i) - means[i]) / mass;
        above[i] = -slope;
        diagonal[i] -= slope;
      }
    }
    for (std::size_t i = 1; i < n; ++i) {  // Thomas algorithm
      const double factor = below[i] / diagonal[i - 1];
      diagonal[i] -= factor * above[i - 1];
      residual[i] -= factor * residual[i - 1];
    }
    std::vector<double> move(n);
    double next = 0.0;
    for (std::size_t i = n; i-- > 0;) move[i] = next = (-residual[i] - above[i] * next) / diagonal[i];
    return move;
  }

  const CoordinateLaw& law_;
  std::vector<double> levels_;
};

// [2^bits] levels, symmetric about 0.
std::vector<double> symmetric_levels(const CoordinateLaw& law, int bits) {
  const std::vector<double> half = HalfQuantizer(law, std::size_t{1} << (bits - 1)).solve();
  std::vector<double> levels;
  for (auto level = half.rbegin(); level != half.rend(); ++level) levels.push_back(-*level);
  levels.insert(levels.end(), half.begin(), half.end());
  return levels;
}

// The law of a unit vector of R^1 is two points: the outermost levels meet them, the others are never chosen.
std::vector<double> two_point_levels(int bits) {
  const std::size_t count = std::size_t{1} << bits;
  std::vector<double> levels(count);
  for (std::size_t i = 0; i < count; ++i)
    levels[i] = 2.0 * static_cast<double>(i) / static_cast<double>(count - 1) - 1.0;
  return levels;
}

void check_bits(int bits) {
  dispatch_bits(bits, [](auto) {});
}

// Integral of (t - level)^2 over all cells. The law is symmetric, a codebook may not be: both sides are
// added, the negative one mirrored.
double distortion(const CoordinateLaw& law, const std::vector<double>& levels,
                  const std::vector<double>& boundaries) {
  const auto piece = [&](double low, double high, double level) {
    return law.second_moment(low, high) - 2.0 * level * law.first_moment(low, high) +
           level * level * law.mass(low, high);
  };
  double total = 0.0;
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const double low = i == 0 ? -law.support() : std::max(-law.support(), boundaries[i - 1]);
    const double high = i + 1 == levels.size() ? law.support() : std::min(law.support(), boundaries[i]);
    if (std::max(low, 0.0) < high) total += piece(std::max(low, 0.0), high, levels[i]);
    if (low < std::min(high, 0.0)) total += piece(-std::min(high, 0.0), -low, -levels[i]);
  }
  return total;
}

}  // namespace

int Codebook::bits() const {
  return std::countr_zero(centroids.size());
}

Codebook Codebook::from_centroids(std::vector<float> centroids) {
  if (centroids.size() < 2 || centroids.size() > 256 || !std::has_single_bit(centroids.size()) ||
      !std::is_sorted(centroids.begin(), centroids.end())) {
    throw Error("codebook of " + std::to_string(centroids.size()) +
                " centroids; valid: 2, 4, 8, ..., 256 of them in ascending order");
  }
  Codebook codebook;
  for (std::size_t i = 1; i < centroids.size(); ++i) {
    codebook.boundaries.push_back(static_cast<float>(
        0.5 * (static_cast<double>(centroids[i - 1]) + static_cast<double>(centroids[i]))));
  }
  codebook.centroids = std::move(centroids);
  return codebook;
}

std::vector<double> lloyd_max_normal_levels(int bits) {
  check_bits(bits);
  return symmetric_levels(NormalLaw(), bits);
}

double lloyd_max_normal_distortion(int bits) {
  const std::vector<double> levels = lloyd_max_normal_levels(bits);
  std::vector<double> boundaries;
  for (std::size_t i = 1; i < levels.size(); ++i) boundaries.push_back(0.5 * (levels[i - 1] + levels[i]));
  return distortion(NormalLaw(), levels, boundaries);
}

Codebook lloyd_max_codebook(CodebookLaw law, int bits, std::int64_t dim) {
  check_bits(bits);
  if (dim < 1) throw Error("codebook: dim = " + std::to_string(dim) + "; valid: 1 or more");
  std::vector<double> levels;
  double scale = 1.0;
  if (law == CodebookLaw::gaussian) {
    levels = lloyd_max_normal_levels(bits);
    scale = 1.0 / std::sqrt(static_cast<double>(dim));
  } else {
    levels = dim == 1 ? two_point_levels(bits) : symmetric_levels(SphereLaw(dim), bits);
  }
  std::vector<float> centroids;
  for (const double level : levels) centroids.push_back(static_cast<float>(scale * level));
  return Codebook::from_centroids(std::move(centroids));
}

double expected_distortion(const Codebook& codebook, std::int64_t dim) {
  const std::vector<double> levels(codebook.centroids.begin(), codebook.centroids.end());
  const std::vector<double> boundaries(codebook.boundaries.begin(), codebook.boundaries.end());
  if (dim == 1) {
    const auto cell = std::lower_bound(boundaries.begin(), boundaries.end(), 1.0) - boundaries.begin();
    const double gap = 1.0 - levels[static_cast<std::size_t>(cell)];
    return gap * gap;
  }
  return static_cast<double>(dim) * distortion(SphereLaw(dim), levels, boundaries);
}

}  // namespace rotorquant
