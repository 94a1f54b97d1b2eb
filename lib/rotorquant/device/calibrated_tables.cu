#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "rotorquant/core/half.hpp"
#include "rotorquant/device/calibrated_tables.cuh"

namespace rotorquant::device {

void order_coordinates(const Rope& rope, int dim, std::vector<int>& order, std::vector<double>& turns) {
  const int pairs = static_cast<int>(rope.inv_freq.size());
  order.assign(static_cast<std::size_t>(dim), 0);
  turns.assign(static_cast<std::size_t>(dim / 2), 0.0);
  for (int j = 0; j < dim / 2; ++j) {
    const bool halves = rope.layout == RopeLayout::half;
    const auto at = static_cast<std::size_t>(j);
    const int left = 2 * j;  // of what does not turn
    order[at] = j >= pairs ? left : halves ? j : 2 * j;
    order[at + static_cast<std::size_t>(dim / 2)] = j >= pairs ? left + 1 : halves ? j + pairs : 2 * j + 1;
    if (j < pairs) turns[at] = rope.inv_freq[at] / (2.0 * std::numbers::pi);
  }
}

template <int D>
std::vector<std::uint8_t> head_tables(const CalibratedCodec& codec, std::span<const int> order, int centroids,
                                      int value_bytes) {
  const CalibratedParameters& parameters = codec.parameters();
  const MixedPlanes& planes = codec.planes();
  const TrellisCodebook& codebook = codec.trellis()->code().codebook();
  std::vector<int> position(D);  // of each coordinate in storage order
  for (int i = 0; i < D; ++i)
    position[static_cast<std::size_t>(planes.order()[static_cast<std::size_t>(i)])] = i;
  CalibratedHead head{};
  std::vector<Place> places(D, Place{0, 0, 0});
  std::vector<int> coordinate;  // of each rank
  for (int c = 0; c < D; ++c) {
    const int width = codec.widths()[static_cast<std::size_t>(c)];
    if (width == 0) continue;
    head.planes = std::max(head.planes, width);
    places[coordinate.size()] = {static_cast<std::uint16_t>(position[static_cast<std::size_t>(c)]),
                                 static_cast<std::uint16_t>(width),
                                 static_cast<std::uint32_t>(2 * zero_values << (width - 1))};
    coordinate.push_back(c);
  }
  head.used = static_cast<int>(coordinate.size());
  for (int k = 1; k < 8; ++k) head.start[k] = head.start[k - 1] + static_cast<int>(planes.count_at_least(k));
  head.centroid_bit = static_cast<int>(planes.bits());
  head.centroid_bits = parameters.centroid_bits;
  head.scale_bits = parameters.scale.bits;
  head.scale_zero = static_cast<float>(parameters.scale.zero - (1 << (parameters.scale.bits - 1)));
  head.scale_step = 1.0F / static_cast<float>(parameters.scale.steps_per_octave);

  // Numbers near 1 and below, well inside fp16.
  float largest = 0.0F;
  for (const float value : codec.backward()) largest = std::max(largest, std::fabs(value));
  std::vector<float> offsets(parameters.centroids.size());
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    offsets[i] = parameters.centroids[i] + codec.shift()[i % D];
    largest = std::max(largest, std::fabs(offsets[i]));
  }
  head.unit = largest > 0.0F ? std::exp2(std::ceil(std::log2(largest))) : 1.0F;

  using Layout = HeadLayout<D>;
  std::vector<std::uint8_t> bytes(
      static_cast<std::size_t>(Layout::matrix + (D + centroids) * Layout::row + value_bytes));
  std::memcpy(bytes.data(), &head, sizeof head);
  std::memcpy(bytes.data() + Layout::places, places.data(), places.size() * sizeof(Place));
  auto* const rows = reinterpret_cast<std::uint16_t*>(bytes.data() + Layout::matrix);
  for (std::size_t rank = 0; rank < coordinate.size(); ++rank) {
    const auto stored = static_cast<std::size_t>(position[static_cast<std::size_t>(coordinate[rank])]);
    for (std::size_t i = 0; i < D; ++i) {
      rows[rank * D + i] =
          float_to_half(codec.backward()[stored * D + static_cast<std::size_t>(order[i])] / head.unit);
    }
  }
  for (std::size_t j = 0; j < offsets.size() / D; ++j) {
    for (std::size_t i = 0; i < D; ++i) {
      rows[(D + j) * D + i] = float_to_half(offsets[j * D + static_cast<std::size_t>(order[i])] / head.unit);
    }
  }
  auto* const values = rows + (D + static_cast<std::size_t>(centroids)) * D;
  for (int width = 1; width <= head.planes; ++width) {
    const std::span<const float> levels = codebook.levels(width).values();
    for (std::size_t i = 0; i < levels.size(); ++i)
      values[(static_cast<std::size_t>(zero_values) << (width - 1)) + i] = float_to_half(levels[i]);
  }
  return bytes;
}

template std::vector<std::uint8_t> head_tables<64>(const CalibratedCodec&, std::span<const int>, int, int);
template std::vector<std::uint8_t> head_tables<128>(const CalibratedCodec&, std::span<const int>, int, int);

}  // namespace rotorquant::device
