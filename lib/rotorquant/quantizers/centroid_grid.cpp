#include "rotorquant/quantizers/centroid_grid.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>

#include "rotorquant/core/error.hpp"

namespace rotorquant {
namespace {

// Makes a norm rounded to float32 no less than the exact one.
constexpr double upwards = 1.0 + 0x1p-20;
// Integers are added to 2^23, above which floats are integers; they and origins stay far below it.
constexpr double float_integers = 0x1p23;
constexpr double most_origin = 0x1p21;
// Of sums of products: they and what is added to them stay below 2^31.
constexpr double most_start = 0x1p29;
// A coordinate is no larger than this: what is computed from its square fits float32.
constexpr double most_reach = 0x1p40, least_reach = 0x1p-40;

double norm_of(std::span<const double> x) {
  double square = 0.0;
  for (const double value : x) square += value * value;
  return std::sqrt(square);
}

}  // namespace

double KeyGrid::largest() const {
  double units = 0.0;
  for (const float addend : addends) {
    const double first = float_integers - static_cast<double>(addend);  // the integer that 0 stands for
    units = std::max({units, std::abs(first), std::abs(first + 2.0 * reach)});
  }
  return units / static_cast<double>(inverse_step);
}

CentroidGrid::CentroidGrid(std::span<const float> centroids, std::span<const float> shift, double reach)
    : dim_(std::ssize(shift)), count_(std::ssize(centroids) / dim_) {
  if (count_ > together) return;
  const auto n = static_cast<std::size_t>(dim_);
  const auto count = static_cast<std::size_t>(count_);
  // ||u||^2 <= dim reach^2 <= 2^31, and <u, i> <= 2^30 with integers of half the reach.
  const int reach_bits = std::min(14, (31 - static_cast<int>(std::bit_width(n - 1))) / 2);
  const double units = std::exp2(reach_bits);
  std::vector<double> mean(n), origin(n);
  for (std::size_t k = 0; k < count * n; ++k)
    mean[k % n] += static_cast<double>(centroids[k]) / static_cast<double>(count);
  double spread = 0.0;
  for (std::size_t k = 0; k < count * n; ++k)
    spread = std::max(spread, std::abs(static_cast<double>(centroids[k]) - mean[k % n]));
  reach += spread;
  if (!(reach < most_reach)) return;
  const double step = std::exp2(std::ceil(std::log2(std::max(reach, least_reach) / units)));
  for (std::size_t i = 0; i < n; ++i) {
    origin[i] = std::round((mean[i] + static_cast<double>(shift[i])) / step);
    if (!(std::abs(origin[i]) < most_origin)) return;
  }

  std::vector<double> places(count * n);
  double largest = 0.0;
  for (std::size_t k = 0; k < count * n; ++k) {
    places[k] = static_cast<double>(centroids[k]) + static_cast<double>(shift[k % n]) - step * origin[k % n];
    largest = std::max(largest, std::abs(places[k]));
  }
  const double most_integer = units / 2.0 - 1.0;
  const double grain = std::max(largest / most_integer, step * 0x1p-10);

  KeyGrid grid{static_cast<std::int32_t>(units), static_cast<float>(1.0 / step), {}};
  grid.addends.assign((n + 31) / 32 * 32, static_cast<float>(float_integers));
  for (std::size_t i = 0; i < n; ++i)
    grid.addends[i] = static_cast<float>(float_integers + units - origin[i]);

  integers_.assign(static_cast<std::size_t>(grid.words() * together), 0);
  starts_.assign(together, std::numeric_limits<std::int32_t>::min() / 2);
  moves_.assign(together, 0);
  squares_.assign(together, 0.0F);
  std::vector<double> row(n), errors(n);
  for (std::size_t k = 0; k < count; ++k) {
    double sum = 0.0, centered_shift = 0.0;
    for (std::size_t i = 0; i < n; ++i) {
      const double place = places[k * n + i];
      const double integer = std::round(place / grain);
      row[i] = integer;
      errors[i] = place - grain * integer;
      sum += integer;
      centered_shift += (static_cast<double>(centroids[k * n + i]) - mean[i]) * static_cast<double>(shift[i]);
      const std::size_t word = (i / 32 * 16 + i % 16) * together + k;
      const auto bits = static_cast<std::uint16_t>(static_cast<std::int16_t>(integer));
      integers_[word] = static_cast<std::int32_t>(static_cast<std::uint32_t>(integers_[word]) |
                                                  static_cast<std::uint32_t>(bits) << (i % 32 / 16 * 16));
    }
    const double square = norm_of({places.data() + k * n, n}) * norm_of({places.data() + k * n, n});
    // ||x - c||^2 = ||x - p||^2 - 2 <x - p, g> + ||g||^2 - 2 <c, h> + ||h||^2 with p = step origin.
    const double start = std::round((square - 2.0 * centered_shift) / (2.0 * step * grain));
    if (!(std::abs(start) < most_start)) return;
    moves_[k] = -static_cast<std::int32_t>(start);
    starts_[k] = static_cast<std::int32_t>(static_cast<std::int64_t>(-start - units * sum));
    squares_[k] = static_cast<float>(square);
    const auto at_least = [](float& bound, double value) {
      bound = std::max(bound, static_cast<float>(value * upwards));
    };
    at_least(bounds_.integers, norm_of(row));
    at_least(bounds_.centroid, norm_of(errors));
    at_least(bounds_.centroids, norm_of({places.data() + k * n, n}));
    for (std::size_t i = 0; i < n; ++i) row[i] = static_cast<double>(centroids[k * n + i]);
    at_least(bounds_.magnitudes, norm_of(row));
  }
  double origin_norm = step * norm_of(origin);
  for (std::size_t i = 0; i < n; ++i) row[i] = static_cast<double>(shift[i]);
  bounds_.magnitudes += static_cast<float>((origin_norm + 2.0 * norm_of(row)) * upwards);
  bounds_.step = static_cast<float>(step);
  bounds_.grain = static_cast<float>(grain * upwards);
  bounds_.key = static_cast<float>(0.5 * step * std::sqrt(static_cast<double>(n)) * upwards);
  grid_ = std::move(grid);
}

bool CentroidGrid::estimates_with(Isa isa) {
  return isa == Isa::avx2 || (isa == Isa::avx512 && vnni_supported());
}

void CentroidGrid::estimate(Isa isa, const std::int32_t* words, CentroidEstimates& found) const {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return estimate_avx512(words, found);
  if (isa == Isa::avx2) return estimate_avx2(words, found);
#endif
  (void)words;
  (void)found;
  throw Error("no estimates of centroids with " + std::string(isa_name(isa)));
}

}  // namespace rotorquant
