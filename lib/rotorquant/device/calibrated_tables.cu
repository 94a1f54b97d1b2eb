#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "rotorquant/core/half.hpp"
#include "rotorquant/device/calibrated_tables.cuh"
#include "rotorquant/device/hopper/wgmma.cuh"

namespace rotorquant::device {
namespace {

// Stored numbers are at most this, so that keys in units fit fp16 whatever their scale.
constexpr float largest_stored = 0.125F;

template <int D>
void write_image(const CalibratedCodec& codec, const KeyIndices& indices, std::span<const int> order,
                 const HeadImage& layout, std::uint8_t* image) {
  const CalibratedParameters& parameters = codec.parameters();
  const MixedPlanes& planes = codec.planes();
  KeyHead head{};
  head.upper_bit = static_cast<int>(planes.count_at_least(1));
  head.tail_bit = indices.tail_bit;
  head.groups = indices.groups;
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

  const auto put = [&](int at, float value) {
    const std::uint16_t half = float_to_half(value / head.unit);
    std::memcpy(image + at, &half, sizeof half);
  };
  for (int position = 0; position < head.upper_bit; ++position) {
    const int inner = indices.inner[static_cast<std::size_t>(position)];
    for (int n = 0; n < D; ++n) {
      const int at = HeadImage::operand_place<D>(n / 64, inner / 64 * 4) + operand_offset(n % 64, inner % 64);
      put(layout.operand + at,
          middle *
              codec.backward()[static_cast<std::size_t>(position * D + order[static_cast<std::size_t>(n)])]);
    }
  }
  for (int j = 0; j < static_cast<int>(offsets.size()) / D; ++j) {
    for (int n = 0; n < D; ++n) {
      const float value = offsets[static_cast<std::size_t>(j * D + order[static_cast<std::size_t>(n)])];
      const int row = layout.centroids + j * HeadImage::centroid_pitch<D>,
                place = HeadImage::centroid_place(n);
      put(row + place, value);
      put(row + HeadImage::second_copy<D> + (place ^ 64), value);
    }
  }
  std::memcpy(image + layout.indices, indices.weights.data(), indices.weights.size());
  std::memcpy(image + HeadImage::tables, indices.tables.data(), indices.tables.size());
  std::memcpy(image + layout.head, &head, sizeof head);
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

HeadImages head_images(std::span<const std::shared_ptr<const CalibratedCodec>> codecs,
                       std::span<const int> order) {
  HeadImages images;
  const int dim = static_cast<int>(codecs[0]->dim());
  images.shape = {dim, 0, key_code(*codecs[0])};
  int centroids = 0;
  for (const auto& codec : codecs) {
    images.shape.single_steps = std::max(images.shape.single_steps, single_steps(*codec));
    if (key_code(*codec) == KeyCode::scalar) images.shape.code = KeyCode::scalar;
    centroids = std::max(centroids, static_cast<int>(codec->parameters().num_centroids()));
  }
  std::vector<KeyIndices> indices;
  std::size_t weights = 0, tables = 0;
  for (const auto& codec : codecs) {
    indices.push_back(key_indices(*codec, images.shape));
    weights = std::max(weights, indices.back().weights.size());
    tables = std::max(tables, indices.back().tables.size());
  }
  HeadImage& layout = images.layout;
  layout.operand = (static_cast<int>(tables) + 1023) / 1024 * 1024;
  layout.indices = layout.operand + 2 * dim * dim;
  layout.centroids = layout.indices + static_cast<int>(weights);
  layout.head = layout.centroids + centroids * 4 * dim;
  layout.bytes = layout.head + static_cast<int>(sizeof(KeyHead));
  images.bytes.resize(codecs.size() * static_cast<std::size_t>(layout.bytes));
  for (std::size_t i = 0; i < codecs.size(); ++i) {
    std::uint8_t* const image = &images.bytes[i * static_cast<std::size_t>(layout.bytes)];
    dim == 64 ? write_image<64>(*codecs[i], indices[i], order, layout, image)
              : write_image<128>(*codecs[i], indices[i], order, layout, image);
  }
  return images;
}

}  // namespace rotorquant::device
