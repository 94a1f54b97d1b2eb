#include "rotorquant/quantizers/centroid_search.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "rotorquant/quantizers/level_search.hpp"

namespace rotorquant {
namespace {

// Makes a norm rounded to float32 no less than the exact one.
constexpr double upwards = 1.0 + 0x1p-20;

}  // namespace

CentroidSearch::CentroidSearch(std::span<const float> centroids, std::span<const float> shift)
    : dim_(std::ssize(shift)),
      count_(std::ssize(centroids) / dim_),
      centroids_(centroids.begin(), centroids.end()),
      shift_(shift.begin(), shift.end()) {
  double shift_square = 0.0;
  for (const float value : shift_) shift_square += static_cast<double>(value) * static_cast<double>(value);
  shift_norm_ = static_cast<float>(std::sqrt(shift_square) * upwards);
  if (count_ > together) return;
  bytes_.resize(static_cast<std::size_t>((dim_ + 3) / 4 * together));
  for (auto* values : {&steps_, &squares_, &norms_, &errors_}) values->resize(together);
  offset_.resize(together);
  for (std::int64_t k = 0; k < count_; ++k) {
    const float* c = centroids_.data() + k * dim_;
    const auto lane = static_cast<std::size_t>(k);
    double largest = 0.0;
    for (std::int64_t i = 0; i < dim_; ++i) largest = std::max(largest, std::abs(static_cast<double>(c[i])));
    const auto step = static_cast<float>(std::max(largest / 127.0, 1e-30));
    double square = 0.0, rounded_square = 0.0, error = 0.0;
    for (std::int64_t i = 0; i < dim_; ++i) {
      const auto value = static_cast<double>(c[i]);
      const long integer = std::clamp(std::lround(value / static_cast<double>(step)), -127L, 127L);
      const double rounded = static_cast<double>(step) * static_cast<double>(integer);
      square += value * value;
      rounded_square += rounded * rounded;
      error += (value - rounded) * (value - rounded);
      offset_[lane] += static_cast<std::int32_t>(128 * integer);
      const auto word = static_cast<std::size_t>(i / 4 * together + k);
      bytes_[word] = static_cast<std::int32_t>(
          static_cast<std::uint32_t>(bytes_[word]) |
          (static_cast<std::uint32_t>(static_cast<std::uint8_t>(static_cast<std::int8_t>(integer)))
           << (8 * (i % 4))));
    }
    steps_[lane] = step;
    squares_[lane] = static_cast<float>(square);
    norms_[lane] = static_cast<float>(std::sqrt(std::max(square, rounded_square)) * upwards);
    errors_[lane] = static_cast<float>(std::sqrt(error) * upwards);
  }
}

std::int32_t CentroidSearch::nearest_of_all(Isa isa, const float* x) const {
  std::int32_t nearest = 0;
  double shortest = std::numeric_limits<double>::infinity();
  for (std::int64_t k = 0; k < count_; ++k) {
    const double distance = squared_distance(isa, x, centroids_.data() + k * dim_, shift_.data(), dim_);
    if (distance < shortest) {
      shortest = distance;
      nearest = static_cast<std::int32_t>(k);
    }
  }
  return nearest;
}

std::int32_t CentroidSearch::nearest_of(Isa isa, const float* x, std::uint32_t candidates) const {
  std::int32_t nearest = std::countr_zero(candidates);
  if (std::has_single_bit(candidates)) return nearest;
  double shortest = std::numeric_limits<double>::infinity();
  for (; candidates != 0; candidates &= candidates - 1) {
    const int k = std::countr_zero(candidates);
    const double distance = squared_distance(isa, x, centroids_.data() + k * dim_, shift_.data(), dim_);
    if (distance < shortest) {
      shortest = distance;
      nearest = k;
    }
  }
  return nearest;
}

void CentroidSearch::nearest(Isa isa, const float* x, std::int64_t rows, std::int32_t* found) const {
#if defined(__x86_64__)
  if (isa == Isa::avx512 && vnni_supported() && count_ <= together) {
    constexpr std::int64_t rows_at_once = 16;
    for (std::int64_t first = 0; first < rows; first += rows_at_once) {
      const std::int64_t rest = std::min(rows_at_once, rows - first);
      std::uint32_t candidates[rows_at_once];
      candidates_avx512(x + first * dim_, rest, candidates);
      for (std::int64_t r = 0; r < rest; ++r)
        found[first + r] = nearest_of(isa, x + (first + r) * dim_, candidates[r]);
    }
    return;
  }
#endif
  for (std::int64_t r = 0; r < rows; ++r) found[r] = nearest_of_all(isa, x + r * dim_);
}

}  // namespace rotorquant
