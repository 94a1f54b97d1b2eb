#include "rotorquant/cache/rope.hpp"

#include <cmath>
#include <string>

#include "rotorquant/core/error.hpp"

namespace rotorquant {

RopeTable::RopeTable(const Rope& rope, std::span<const std::int64_t> positions)
    : layout_(rope.layout),
      tokens_(static_cast<std::int64_t>(positions.size())),
      pairs_(static_cast<std::int64_t>(rope.inv_freq.size())) {
  cosines_.reserve(positions.size() * rope.inv_freq.size());
  sines_.reserve(positions.size() * rope.inv_freq.size());
  for (const std::int64_t position : positions) {
    for (const double frequency : rope.inv_freq) {
      const double angle = static_cast<double>(position) * frequency;
      cosines_.push_back(static_cast<float>(std::cos(angle)));
      sines_.push_back(static_cast<float>(std::sin(angle)));
    }
  }
}

void RopeTable::turn(HostView<float> x, std::int64_t first_token, float direction) const {
  if (x.cols < 2 * pairs_ || first_token < 0 || first_token + x.rows > tokens_) {
    throw Error("rope: " + std::to_string(x.rows) + " x " + std::to_string(x.cols) + " values from token " +
                std::to_string(first_token) + "; valid: at most " + std::to_string(tokens_) +
                " tokens of at least " + std::to_string(2 * pairs_) + " coordinates");
  }
  // Distance of the two members of a pair, and of consecutive pairs.
  const std::int64_t reach = layout_ == RopeLayout::half ? pairs_ : 1;
  const std::int64_t step = layout_ == RopeLayout::half ? 1 : 2;
  for (std::int64_t t = 0; t < x.rows; ++t) {
    const float* cosine = cosines_.data() + (first_token + t) * pairs_;
    const float* sine = sines_.data() + (first_token + t) * pairs_;
    float* row = x.row(t);
    for (std::int64_t j = 0; j < pairs_; ++j) {
      const float a = row[j * step];
      const float b = row[j * step + reach];
      const float s = direction * sine[j];
      row[j * step] = a * cosine[j] - b * s;
      row[j * step + reach] = b * cosine[j] + a * s;
    }
  }
}

}  // namespace rotorquant
