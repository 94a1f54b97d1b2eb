#include "rotorquant/quantizers/kivi_codec.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/half.hpp"

namespace rotorquant {
namespace {

constexpr std::int64_t max_group = 1024;

// Arrays of a code.
constexpr std::size_t index_array = 0;
constexpr std::size_t scale_array = 1;
constexpr std::size_t zero_array = 2;

void store_half(float value, const char* what, std::int64_t row, std::uint8_t* bytes) {
  const std::uint16_t half = float_to_half(value);
  if (!std::isfinite(half_to_float(half))) {
    throw Error("encode: row " + std::to_string(row) + " has a group with " + what + " " +
                std::to_string(value) + "; valid: magnitudes up to 65504, the range of 16 bits");
  }
  std::memcpy(bytes, &half, sizeof half);
}

float load_half(const std::uint8_t* bytes) {
  std::uint16_t half = 0;
  std::memcpy(&half, bytes, sizeof half);
  return half_to_float(half);
}

}  // namespace

KiviCodec::KiviCodec(KiviAxis axis, std::int64_t dim, std::int64_t group, int bits)
    : axis_(axis),
      channels_(dim),
      group_(group),
      num_groups_(axis == KiviAxis::token ? (dim + group - 1) / group : dim),
      bits_(bits) {
  const std::int64_t coordinates = axis == KiviAxis::token ? dim : group * dim;
  layout_ = {coordinates,
             {plane_array("indices", FieldKind::index, coordinates, bits),
              number_array("scales", FieldKind::scale, 16 * num_groups_),
              number_array("zeros", FieldKind::zero, 16 * num_groups_)}};
}

void KiviCodec::encode_row(const float* x, std::int64_t row, const Codes<Space::cpu>& code) const {
  const auto groups = static_cast<std::size_t>(num_groups_);
  std::vector<float> least(groups, INFINITY), most(groups, -INFINITY);
  for (std::int64_t i = 0; i < dim(); ++i) {
    const auto g = static_cast<std::size_t>(group_of(i));
    least[g] = std::min(least[g], x[i]);
    most[g] = std::max(most[g], x[i]);
  }
  const auto top = static_cast<float>((1 << bits_) - 1);
  std::vector<float>& scales = most;  // becomes the stored scale
  std::vector<float>& zeros = least;
  // The first token of the block, where a code is of several.
  const std::int64_t token = axis_ == KiviAxis::token ? row : row * group_;
  for (std::size_t g = 0; g < groups; ++g) {
    std::uint8_t* scale = code.arrays[scale_array] + 2 * g;
    std::uint8_t* zero = code.arrays[zero_array] + 2 * g;
    store_half((most[g] - least[g]) / top, "scale", token, scale);
    store_half(least[g], "zero point", token, zero);
    scales[g] = load_half(scale);
    zeros[g] = load_half(zero);
  }
  std::vector<std::uint8_t> indices(static_cast<std::size_t>(dim()));
  for (std::int64_t i = 0; i < dim(); ++i) {
    const auto g = static_cast<std::size_t>(group_of(i));
    const float steps = scales[g] > 0.0F ? (x[i] - zeros[g]) / scales[g] : 0.0F;
    indices[static_cast<std::size_t>(i)] =
        static_cast<std::uint8_t>(std::nearbyint(std::clamp(steps, 0.0F, top)));
  }
  pack_planes(indices.data(), dim(), bits_, code.arrays[index_array]);
}

void KiviCodec::decode_row(const ConstCodes<Space::cpu>& code, float* x) const {
  std::vector<std::uint8_t> indices(static_cast<std::size_t>(dim()));
  unpack_planes(code.arrays[index_array], dim(), bits_, indices.data());
  for (std::int64_t i = 0; i < dim(); ++i) {
    const std::int64_t g = group_of(i);
    const float step = static_cast<float>(indices[static_cast<std::size_t>(i)]) *
                       load_half(code.arrays[scale_array] + 2 * g);
    x[i] = step + load_half(code.arrays[zero_array] + 2 * g);
  }
}

std::int64_t kivi_group(const ParameterReader& parameters) {
  return parameters.integer("group", 1, max_group);
}

QuantizerInfo kivi_quantizer() {
  QuantizerInfo info{
      kivi_name,
      "keys per channel over groups of tokens, values per token over groups of channels; asymmetric, 16-bit "
      "scale and zero",
      "Liu et al., KIVI, arXiv 2402.02750",
      {{"group", "an integer from 1 to 1024", "32", "values that share a scale and a zero point"},
       {"axis", "auto|token|channel", "auto",
        "groups along a token's channels or along a channel's tokens; auto: channel for keys, token for "
        "values"}},
      kivi_name,
      1,
      [](const ParameterReader& parameters, const BuildRequest& request) {
        if (parameters.choice("axis") == "channel") {
          throw UsageError(
              "quantizer 'kivi': axis = 'channel' codes blocks of tokens; valid for single vectors: token");
        }
        return std::make_shared<KiviCodec>(KiviAxis::token, request.dim, kivi_group(parameters),
                                           request.bits);
      }};
  info.seeded = false;
  return info;
}

}  // namespace rotorquant
