#include "rotorquant/cache/block_gtq.hpp"

#include <algorithm>
#include <span>
#include <utility>

#include "rotorquant/codes/mixed_planes.hpp"
#include "rotorquant/quantizers/channel_split.hpp"
#include "rotorquant/quantizers/packed_codes.hpp"
#include "rotorquant/quantizers/scalar_codec.hpp"
#include "rotorquant/rotations/dense.hpp"

namespace rotorquant {
namespace {

using Channels = std::vector<std::int64_t>;

// The pairs that RoPE turns, then what it leaves alone.
std::vector<Channels> pairs_of(std::int64_t dim, const Rope& rope) {
  std::vector<Channels> pairs;
  const std::int64_t turned = rope.rotary_dim();
  for (std::int64_t j = 0; j < turned / 2; ++j) {
    if (rope.layout == RopeLayout::half) {
      pairs.push_back({j, j + turned / 2});
    } else {
      pairs.push_back({2 * j, 2 * j + 1});
    }
  }
  for (std::int64_t c = turned; c < dim; c += 2) {
    pairs.push_back(c + 1 < dim ? Channels{c, c + 1} : Channels{c});
  }
  return pairs;
}

std::shared_ptr<const Quantizer> turboquant_of(std::int64_t dim, int width, std::uint64_t seed) {
  return std::make_shared<ScalarCodec>(std::make_shared<DenseRotation>(DenseRotation::haar(dim, seed)),
                                       lloyd_max_codebook(CodebookLaw::gaussian, width, dim), NormType::fp16,
                                       ScaleRule::mse);
}

// Channels [0, widths.size()) by width, ascending; one codec for each, nested.
std::shared_ptr<const Quantizer> build(std::span<const std::uint8_t> widths, std::uint64_t seed) {
  const auto dim = static_cast<std::int64_t>(widths.size());
  const std::uint8_t least = *std::min_element(widths.begin(), widths.end());
  Channels channels;
  std::vector<std::uint8_t> others;
  for (std::int64_t c = 0; c < dim; ++c) {
    const std::uint8_t width = widths[static_cast<std::size_t>(c)];
    if (width == least) {
      channels.push_back(c);
    } else {
      others.push_back(width);
    }
  }
  // Streams of equal dims would be equal: a width has a seed of its own.
  const auto first =
      turboquant_of(static_cast<std::int64_t>(channels.size()), least, seed * (max_width + 1) + least);
  if (others.empty()) return first;
  return std::make_shared<ChannelSplit>(first, build(others, seed), channels);
}

}  // namespace

std::vector<std::uint8_t> block_gtq_widths(const KeyStatistics& statistics, const Rope& rope, int bits) {
  const std::vector<Channels> pairs = pairs_of(statistics.dim(), rope);
  std::vector<double> gains;  // s_i 4^-w_i, which the next bit lowers by three quarters
  for (const Channels& pair : pairs) {
    double score = 0.0;
    for (const std::int64_t c : pair) {
      score += 0.5 * (static_cast<double>(statistics.key_energy[static_cast<std::size_t>(c)]) +
                      static_cast<double>(statistics.query_energy[static_cast<std::size_t>(c)]));
    }
    gains.push_back(0.25 * score);
  }
  std::vector<std::uint8_t> widths(pairs.size(), 1);
  constexpr double exhausted = -1.0;  // below every gain
  for (std::int64_t bit = 0; bit < (bits - 1) * static_cast<std::int64_t>(pairs.size()); ++bit) {
    const auto best = static_cast<std::size_t>(std::max_element(gains.begin(), gains.end()) - gains.begin());
    ++widths[best];
    gains[best] = widths[best] == max_width ? exhausted : 0.25 * gains[best];
  }
  std::vector<std::uint8_t> by_channel(static_cast<std::size_t>(statistics.dim()));
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    for (const std::int64_t c : pairs[i]) by_channel[static_cast<std::size_t>(c)] = widths[i];
  }
  return by_channel;
}

std::shared_ptr<const Quantizer> block_gtq_quantizer(const KeyStatistics& statistics, const Rope& rope,
                                                     int bits, std::uint64_t seed) {
  statistics.validate();
  const std::vector<std::uint8_t> widths = block_gtq_widths(statistics, rope, bits);
  std::vector<PlaneArray> planes;  // each width in use has its indices and its scale
  for (int width = 1; width <= max_width; ++width) {
    const std::int64_t channels = std::count(widths.begin(), widths.end(), width);
    if (channels > 0) planes.push_back({2 * planes.size(), channels, width});
  }
  return std::make_shared<PackedCodes>(build(widths, seed), std::move(planes));
}

}  // namespace rotorquant
