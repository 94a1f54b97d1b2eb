#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <utility>

#include "rotorquant/core/half.hpp"
#include "rotorquant/device/calibrated_tables.cuh"
#include "rotorquant/device/hopper/wgmma.cuh"

namespace rotorquant::device {
namespace {

// Stored numbers are at most this, so that keys in units fit fp16 whatever their scale.
constexpr float largest_stored = 0.125F;

// What all codecs' images have. inner_of(position in storage order): the inner index of the product.
template <int D, int copies, typename Inner>
std::vector<std::uint8_t> common_image(const CalibratedCodec& codec, std::span<const int> order,
                                       int centroids, std::size_t decoder_bytes, const Inner& inner_of) {
  using Image = HeadImage<D, copies>;
  const CalibratedParameters& parameters = codec.parameters();
  const MixedPlanes& planes = codec.planes();
  KeyHead head{};
  for (int k = 0; k < 8; ++k) {
    head.count[k] = static_cast<int>(planes.count_at_least(k + 1));
    if (k > 0) head.start[k] = head.start[k - 1] + head.count[k - 1];
  }
  head.centroid_bit = static_cast<int>(planes.bits());
  head.centroid_bits = parameters.centroid_bits;
  head.scale_bits = parameters.scale.bits;
  head.scale_step = 1.0F / static_cast<float>(parameters.scale.steps_per_octave);
  const float middle = std::exp2(static_cast<float>(parameters.scale.zero) * head.scale_step);

  float largest = 0.0F;
  for (const float value : codec.backward()) largest = std::max(largest, std::fabs(value) * middle);
  std::vector<float> offsets(parameters.centroids.size());
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    offsets[i] = parameters.centroids[i] + codec.shift()[i % D];
    largest = std::max(largest, std::fabs(offsets[i]));
  }
  head.unit = largest > 0.0F ? std::exp2(std::ceil(std::log2(largest / largest_stored))) : 1.0F;

  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(Image::decoder(centroids)) + decoder_bytes);
  const auto put = [&](int at, float value) {
    const std::uint16_t half = float_to_half(value / head.unit);
    std::memcpy(&bytes[static_cast<std::size_t>(at)], &half, sizeof half);
  };
  for (int position = 0; position < head.count[0]; ++position) {
    const int inner = inner_of(position);
    for (int n = 0; n < D; ++n) {
      const int at = Image::operand_place(n / 64, inner / 64 * 4) + operand_offset(n % 64, inner % 64);
      put(Image::operand + at,
          middle *
              codec.backward()[static_cast<std::size_t>(position * D + order[static_cast<std::size_t>(n)])]);
    }
  }
  for (int j = 0; j < static_cast<int>(offsets.size()) / D; ++j) {
    for (int n = 0; n < D; ++n) {
      const float value = offsets[static_cast<std::size_t>(j * D + order[static_cast<std::size_t>(n)])];
      const int row = Image::centroids + j * Image::centroid_pitch;
      put(row + Image::centroid_place(n), value);
      if (copies == 2) put(row + Image::second_copy + (Image::centroid_place(n) ^ 64), value);
    }
  }
  std::memcpy(&bytes[static_cast<std::size_t>(Image::head(centroids))], &head, sizeof head);
  return bytes;
}

// The level of a code of four bits.
float level_of(bool four, int code) {
  const int width = four ? 4 : code < 8 ? 3 : code < 12 ? 2 : code < 14 ? 1 : 0;
  const NormalLevels levels(width);
  return levels[static_cast<std::uint8_t>(code % (1 << width))];
}

}  // namespace

void order_coordinates(const Rope& rope, int dim, std::vector<int>& order, std::vector<double>& turns) {
  const int pairs = static_cast<int>(rope.inv_freq.size());
  order.assign(static_cast<std::size_t>(dim), 0);
  turns.assign(static_cast<std::size_t>(dim / 2), 0.0);
  for (int j = 0; j < dim / 2; ++j) {
    const bool halves = rope.layout == RopeLayout::half;
    const auto at = static_cast<std::size_t>(j);
    const int left = 2 * j;  // of what does not turn
    const auto place = static_cast<std::size_t>(j / 32 * 64 + j % 32);
    order[place] = j >= pairs ? left : halves ? j : 2 * j;
    order[place + 32] = j >= pairs ? left + 1 : halves ? j + pairs : 2 * j + 1;
    if (j < pairs) turns[at] = rope.inv_freq[at] / (2.0 * std::numbers::pi);
  }
}

template <int D>
HeadBytes scalar_head_image(const CalibratedCodec& codec, std::span<const int> order, int centroids) {
  const MixedPlanes& planes = codec.planes();
  const auto width_at = [&](int position) {
    const auto coordinate = planes.order()[static_cast<std::size_t>(position)];
    return static_cast<int>(codec.widths()[static_cast<std::size_t>(coordinate)]);
  };
  ScalarTables<D> tables{};
  for (const bool four : {false, true}) {
    for (int i = 0; i < pair_codes; ++i) {
      const auto half = [&](int code) {
        return static_cast<std::uint32_t>(float_to_half(level_of(four, code)));
      };
      tables.pairs[four ? 1 : 0][i] = half(i % 16) | half(i / 16) << 16;
    }
  }
  int first[max_width + 1] = {};
  for (int width = widest_paired + 1, next = 0; width <= max_width; next += 1 << width++) {
    first[width] = next;
    const NormalLevels levels(width);
    for (int i = 0; i < 1 << width; ++i)
      tables.levels[next + i] = float_to_half(levels[static_cast<std::uint8_t>(i)]);
  }
  tables.four_count = static_cast<int>(planes.count_at_least(widest_paired));
  for (int position = 0; position < D; ++position) {
    const int width = width_at(position);
    for (int k = 0; k < width; ++k) tables.wider_than[position / 32][k] |= 1U << position % 32;
    if (width > widest_paired)
      tables.wide_levels[tables.wide_count++] = static_cast<std::uint32_t>(2 * first[width]);
  }
  std::vector<std::uint8_t> image =
      common_image<D, scalar_centroid_copies>(codec, order, centroids, sizeof tables, [](int position) {
        const int t = position % 4, i = position % 16 / 4;
        return position / 16 * 16 + 2 * t + i % 2 + i / 2 * 8;
      });
  std::memcpy(&image[static_cast<std::size_t>(HeadImage<D, scalar_centroid_copies>::decoder(centroids))],
              &tables, sizeof tables);
  const int shared = static_cast<int>(image.size());
  return {std::move(image), shared};
}

template <int D>
HeadBytes trellis_head_image(const CalibratedCodec& codec, std::span<const int> order, int centroids) {
  const MixedPlanes& planes = codec.planes();
  const TrellisCodebook& codebook = codec.trellis()->code().codebook();
  const auto level = [&](int width, int index) {
    return static_cast<std::uint32_t>(
        float_to_half(codebook.levels(width).values()[static_cast<std::size_t>(index)]));
  };
  TrellisTables<D> tables{};
  for (int row = 0; row < 256; ++row) {
    const std::uint32_t narrow = row < 128 ? level(2, row) : row < 192 ? level(1, row - 128) : 0U;
    tables.levels[0][row] = level(3, row) | narrow << 16;
    tables.levels[1][row] = level(4, row) | level(4, 256 + row) << 16;
  }
  std::vector<int> rank(D);
  for (std::size_t c = 0; c < D; ++c) {
    rank[c] = tables.used;
    tables.used += codec.widths()[c] > 0 ? 1 : 0;
  }
  tables.four_count = static_cast<int>(planes.count_at_least(widest_paired));
  std::vector<TrellisWide> wide;
  std::vector<std::uint16_t> wide_levels;  // of the widths that occur
  int first[max_width + 1] = {};
  for (int position = 0; position < D; ++position) {
    const auto coordinate = static_cast<std::size_t>(planes.order()[static_cast<std::size_t>(position)]);
    const int width = codec.widths()[coordinate];
    // The word of a bit of plane `plane`; without one, that constant.
    const auto word_of = [&](int plane, int constant) {
      if (plane >= width) return static_cast<std::uint16_t>(constant);
      int start = 0;
      for (int k = 1; k < plane; ++k) start += static_cast<int>(planes.count_at_least(k + 1));
      return static_cast<std::uint16_t>(constant_words + start + position);
    };
    TrellisPlace& place = tables.places[position];
    place.rank = static_cast<std::uint16_t>(width > 0 ? rank[coordinate] : 0);
    place.column = static_cast<std::uint16_t>(width >= 4 ? 128 : width == 3 ? 0 : 2);
    place.upper[0] = word_of(1, width == 0 ? 1 : 0);
    place.upper[1] = word_of(2, width < 2 ? 1 : 0);
    place.upper[2] = word_of(3, 0);
    if (width <= widest_paired) continue;
    if (wide.empty() || first[width] == 0) {
      first[width] = static_cast<int>(wide_levels.size()) + 1;
      for (int i = 0; i < 1 << (width + register_bits - 1); ++i)
        wide_levels.push_back(static_cast<std::uint16_t>(level(width, i)));
    }
    TrellisWide of_width{place.rank, {}, static_cast<std::uint32_t>(first[width] - 1)};
    for (int k = 1; k < max_width; ++k) of_width.upper[k - 1] = word_of(k, 0);
    wide.push_back(of_width);
  }
  tables.wide_count = static_cast<int>(wide.size());
  const auto padded = [](std::size_t bytes) { return (bytes + 15) / 16 * 16; };
  const std::size_t wide_bytes = padded(wide.size() * sizeof(TrellisWide));
  tables.wide_levels = static_cast<int>(sizeof tables + wide_bytes);
  std::vector<std::uint8_t> image = common_image<D, trellis_centroid_copies>(
      codec, order, centroids, sizeof tables + wide_bytes + padded(2 * wide_levels.size()),
      [](int position) { return position; });
  const int at = HeadImage<D, trellis_centroid_copies>::decoder(centroids);
  std::uint8_t* const to = &image[static_cast<std::size_t>(at)];
  std::memcpy(to, &tables, sizeof tables);
  if (!wide.empty()) {
    std::memcpy(to + sizeof tables, wide.data(), wide.size() * sizeof(TrellisWide));
    std::memcpy(to + tables.wide_levels, wide_levels.data(), 2 * wide_levels.size());
  }
  return {std::move(image), at + tables.wide_levels};
}

template HeadBytes trellis_head_image<64>(const CalibratedCodec&, std::span<const int>, int);
template HeadBytes trellis_head_image<128>(const CalibratedCodec&, std::span<const int>, int);
template HeadBytes scalar_head_image<64>(const CalibratedCodec&, std::span<const int>, int);
template HeadBytes scalar_head_image<128>(const CalibratedCodec&, std::span<const int>, int);

}  // namespace rotorquant::device
