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

// Newton stops when no level moves by more than this share of the standard deviation: rounding level of float64.
constexpr double stationary_step = 1e-14;
constexpr int max_iterations = 500;

// The positive half of a symmetric quantizer: levels c[0] < c[1] < ..., cell i between the midpoints around c[i], the
// first cell starting at 0. Stationary where every level is the centroid of its cell.
class HalfQuantizer {
 public:
  HalfQuantizer(const CoordinateLaw& law, std::size_t levels) : law_(law), levels_(levels) {
    // Equal steps over the bulk of the law: ordered, inside the support, and close enough for Newton's method.
    const double reach = std::min(law.support(), law.standard_deviation() * (1.0 + std::log2(static_cast<double>(levels) + 1.0)));
    for (std::size_t i = 0; i < levels; ++i) {
      levels_[i] = reach * (static_cast<double>(i) + 0.5) / static_cast<double>(levels);
    }
  }

  std::vector<double> solve() {
    // A few fixed-point steps (Lloyd's method I) first: they cannot leave the region of ordered levels.
    constexpr int fixed_point_steps = 30;
    for (int step = 0; step < fixed_point_steps; ++step) levels_ = centroids();
    for (int step = 0; step < max_iterations; ++step) {
      const std::vector<double> next = newton_step();
      const bool ordered = next.front() > 0.0 && std::is_sorted(next.begin(), next.end()) && next.back() <= law_.support();
      const std::vector<double> moved = ordered ? next : centroids();
      double largest = 0.0;
      for (std::size_t i = 0; i < moved.size(); ++i) largest = std::max(largest, std::abs(moved[i] - levels_[i]));
      levels_ = moved;
      if (largest <= stationary_step * law_.standard_deviation()) break;
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
      const double mass = law_.mass_to(upper(i)) - law_.mass_to(lower(i));
      const double moment = law_.first_moment_to(upper(i)) - law_.first_moment_to(lower(i));
      means[i] = mass > 0.0 ? moment / mass : levels_[i];
    }
    return means;
  }

  // Solves F(c) = c - centroid(c) = 0; the Jacobian is tridiagonal because a cell depends on its neighbours alone:
  // d centroid / d bound = +-p(bound) (bound - centroid) / mass, and a bound moves half as far as either level.
  std::vector<double> newton_step() const {
    const std::size_t n = levels_.size();
    const std::vector<double> means = centroids();
    std::vector<double> below(n, 0.0), diagonal(n, 1.0), above(n, 0.0), residual(n);
    for (std::size_t i = 0; i < n; ++i) {
      residual[i] = levels_[i] - means[i];
      const double mass = law_.mass_to(upper(i)) - law_.mass_to(lower(i));
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
    std::vector<double> next(n);
    double correction = 0.0;
    for (std::size_t i = n; i-- > 0;) {
      correction = (residual[i] - above[i] * correction) / diagonal[i];
      next[i] = levels_[i] - correction;
    }
    return next;
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
  for (std::size_t i = 0; i < count; ++i) levels[i] = 2.0 * static_cast<double>(i) / static_cast<double>(count - 1) - 1.0;
  return levels;
}

void check_bits(int bits) {
  dispatch_bits(bits, [](auto) {});
}

// Integral of (t - level)^2 over all cells.
double distortion(const CoordinateLaw& law, const std::vector<double>& levels, const std::vector<double>& boundaries) {
  double total = 0.0;
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const double low = i == 0 ? -law.support() : boundaries[i - 1];
    const double high = i + 1 == levels.size() ? law.support() : boundaries[i];
    const double mass = law.mass_to(high) - law.mass_to(low);
    const double first = law.first_moment_to(high) - law.first_moment_to(low);
    const double second = law.second_moment_to(high) - law.second_moment_to(low);
    total += second - 2.0 * levels[i] * first + levels[i] * levels[i] * mass;
  }
  return total;
}

}  // namespace

int Codebook::bits() const { return std::bit_width(centroids.size()) - 1; }

Codebook Codebook::from_centroids(std::vector<float> centroids) {
  if (centroids.size() < 2 || centroids.size() > 256 || !std::has_single_bit(centroids.size()) ||
      !std::is_sorted(centroids.begin(), centroids.end())) {
    throw Error("codebook of " + std::to_string(centroids.size()) +
                " centroids; valid: 2, 4, 8, ..., 256 of them in ascending order");
  }
  Codebook codebook;
  for (std::size_t i = 1; i < centroids.size(); ++i) {
    codebook.boundaries.push_back(static_cast<float>(0.5 * (static_cast<double>(centroids[i - 1]) + static_cast<double>(centroids[i]))));
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
