#include "rotorquant/cache/sequence_fit.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "rotorquant/core/float8.hpp"
#include "rotorquant/quantizers/channel_split.hpp"
#include "rotorquant/quantizers/float_formats.hpp"

namespace rotorquant {

OutlierChannels::OutlierChannels(std::shared_ptr<const Quantizer> outlier,
                                 std::shared_ptr<const Quantizer> rest)
    : outlier_(std::move(outlier)),
      rest_(std::move(rest)),
      layout_(split_layout(outlier_->layout(), rest_->layout())) {}

SequenceQuantizer OutlierChannels::fit(HostView<const float> keys) const {
  std::vector<double> energy(static_cast<std::size_t>(layout_.dim), 0.0);
  for (std::int64_t t = 0; t < keys.rows; ++t) {
    for (std::int64_t c = 0; c < keys.cols; ++c) {
      const auto value = static_cast<double>(keys.row(t)[c]);
      energy[static_cast<std::size_t>(c)] += value * value;
    }
  }
  std::vector<std::int64_t> channels(energy.size());
  std::iota(channels.begin(), channels.end(), 0);
  std::stable_sort(channels.begin(), channels.end(), [&](std::int64_t a, std::int64_t b) {
    return energy[static_cast<std::size_t>(a)] > energy[static_cast<std::size_t>(b)];
  });
  channels.resize(static_cast<std::size_t>(outlier_->dim()));
  std::sort(channels.begin(), channels.end());
  return {std::make_shared<ChannelSplit>(outlier_, rest_, channels), {}, {{"outlier channels", layout_.dim}}};
}

HeadScaledE4m3::HeadScaledE4m3(std::int64_t dim) : unscaled_(std::make_shared<E4m3Codec>(dim)) {}

SequenceQuantizer HeadScaledE4m3::fit(HostView<const float> keys) const {
  float largest = 0.0F;
  for (std::int64_t i = 0; i < keys.size(); ++i) largest = std::max(largest, std::abs(keys.data[i]));
  // Where everything is zero, or not finite (which encoding refuses), any scale serves.
  const float scale = largest / e4m3_max;
  const bool usable = std::isfinite(scale) && scale >= std::numeric_limits<float>::min();
  return {std::make_shared<E4m3Codec>(layout().dim, usable ? scale : 1.0F), {}, {{"scale", 32}}};
}

}  // namespace rotorquant
