#include "rotorquant/quantizers/trivector_codec.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "rotorquant/clifford/reference_table.hpp"
#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/core/dot_product.hpp"
#include "rotorquant/rotations/rotor.hpp"

namespace rotorquant {
namespace {

// The reference's law of a trivector is N(0, trivector_variance / d).
constexpr double trivector_variance = 2.0;

Codebook reference_trivector_codebook(int bits, std::int64_t dim) {
  const double deviation = std::sqrt(trivector_variance / static_cast<double>(dim));
  std::vector<float> centroids;
  for (const double level : lloyd_max_normal_levels(bits))
    centroids.push_back(static_cast<float>(deviation * level));
  return Codebook::from_centroids(std::move(centroids));
}

}  // namespace

TrivectorCodec::TrivectorCodec(std::int64_t dim, const std::vector<Rotor>& rotors, Codebook vector_codebook,
                               Codebook trivector_codebook)
    : vector_codec_(std::make_shared<ScalarCodec>(
          std::make_shared<BlockRotation<3>>(rotor_rotation(dim, Tail::pad, rotors)),
          std::move(vector_codebook), NormType::reference)),
      trivector_codebook_(std::move(trivector_codebook)),
      layout_(vector_codec_->layout()),
      trivector_array_(layout_.arrays.size()) {
  for (const Rotor& rotor : rotors) {
    const std::array<double, 3> exact = reference_trivector_weights(rotor);
    std::array<float, 3>& rounded = weights_.emplace_back();
    std::transform(exact.begin(), exact.end(), rounded.begin(),
                   [](double w) { return static_cast<float>(w); });
  }
  layout_.arrays.push_back(
      plane_array("trivector_indices", FieldKind::index, groups(), trivector_codebook_.bits()));
}

void TrivectorCodec::encode(const Context& context, HostView<const float> x, Codes<Space::cpu> codes) const {
  vector_codec_->encode(context, x, codes);
  const std::int64_t code_bytes = layout_.arrays[trivector_array_].bytes_per_vector();
  parallel_chunks(context, x.rows, vectors_per_block, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t count = end - begin;
    std::vector<float> t(static_cast<std::size_t>(count * groups()));
    std::vector<std::uint8_t> indices(static_cast<std::size_t>(groups()));
    trivectors(x.row_range(begin, count), {t.data(), count, groups()});
    for (std::int64_t r = 0; r < count; ++r) {
      quantize_coordinates(trivector_codebook_, t.data() + r * groups(), groups(), indices.data());
      pack_planes(indices.data(), groups(), trivector_codebook_.bits(),
                  codes.arrays[trivector_array_] + (begin + r) * code_bytes);
    }
  });
}

void TrivectorCodec::trivectors(HostView<const float> x, HostView<float> t) const {
  for (std::int64_t r = 0; r < x.rows; ++r) {
    const float* row = x.row(r);
    const auto norm = static_cast<float>(std::sqrt(squared_norm(row, x.cols)));
    const float divisor = std::max(norm, norm_floor);
    for (std::int64_t g = 0; g < groups(); ++g) {
      float sum = 0.0F;
      for (std::int64_t c = 3 * g; c < std::min(3 * g + 3, x.cols); ++c) {
        sum +=
            weights_[static_cast<std::size_t>(g)][static_cast<std::size_t>(c - 3 * g)] * (row[c] / divisor);
      }
      t.row(r)[g] = sum;
    }
  }
}

QuantizerInfo trivector_quantizer() {
  QuantizerInfo info;
  info.name = "rotorquant-trivector";
  info.summary =
      "compatibility: rotorquant as the Python reference stores it, with an unused trivector a group";
  info.source = "RotorQuant, the reference implementation's later form";
  info.value_name = info.name;
  info.build = [](const ParameterReader&, const BuildRequest& request) {
    std::vector<Rotor> rotors;
    for (std::int64_t g = 0; g < rotated_block_count<3>(request.dim, Tail::pad); ++g) {
      rotors.push_back(
          random_rotor(request.seed, static_cast<std::uint32_t>(g), RotorSampling::uniform_angle));
    }
    return std::make_shared<TrivectorCodec>(
        request.dim, rotors, lloyd_max_codebook(CodebookLaw::gaussian, request.bits, request.dim),
        reference_trivector_codebook(std::max(request.bits - 1, 1), request.dim));
  };
  return info;
}

}  // namespace rotorquant
