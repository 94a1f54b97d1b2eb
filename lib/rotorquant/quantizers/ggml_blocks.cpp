#include "rotorquant/quantizers/ggml_blocks.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "rotorquant/core/error.hpp"
#include "rotorquant/core/half.hpp"

namespace rotorquant {
namespace {

constexpr std::int64_t half_block = ggml_block_values / 2;

// What fits q4_0's index beside its neighbour.
static_assert(half_block + 2 == 18 && ggml_block_values + 2 == 34);

void store_scale(float scale, std::int64_t row, std::uint8_t* block) {
  const std::uint16_t half = float_to_half(scale);
  if (!std::isfinite(half_to_float(half))) {
    throw Error("encode: row " + std::to_string(row) + " has a block with scale " + std::to_string(scale) +
                ", outside the range of a 16-bit scale; valid: magnitudes up to 65504");
  }
  std::memcpy(block, &half, sizeof half);
}

float load_scale(const std::uint8_t* block) {
  std::uint16_t half = 0;
  std::memcpy(&half, block, sizeof half);
  return half_to_float(half);
}

void encode_q4_0(const float* x, std::int64_t row, std::uint8_t* block) {
  float largest = 0.0F;
  for (std::int64_t j = 0; j < ggml_block_values; ++j) {
    if (std::abs(x[j]) > std::abs(largest)) largest = x[j];
  }
  const float scale = largest / -8.0F;
  const float inverse = scale == 0.0F ? 0.0F : 1.0F / scale;
  store_scale(scale, row, block);
  const auto index = [&](float value) {
    return static_cast<std::uint8_t>(std::clamp(value * inverse + 8.5F, 0.0F, 15.0F));
  };
  for (std::int64_t j = 0; j < half_block; ++j) {
    block[2 + j] = static_cast<std::uint8_t>(index(x[j]) | (index(x[j + half_block]) << 4));
  }
}

void encode_q8_0(const float* x, std::int64_t row, std::uint8_t* block) {
  float largest = 0.0F;
  for (std::int64_t j = 0; j < ggml_block_values; ++j) largest = std::max(largest, std::abs(x[j]));
  const float scale = largest / 127.0F;
  const float inverse = scale == 0.0F ? 0.0F : 1.0F / scale;
  store_scale(scale, row, block);
  for (std::int64_t j = 0; j < ggml_block_values; ++j) {
    block[2 + j] = static_cast<std::uint8_t>(static_cast<std::int8_t>(std::round(x[j] * inverse)));
  }
}

}  // namespace

GgmlBlocks::GgmlBlocks(GgmlFormat format, std::int64_t dim) : format_(format) {
  const std::int64_t blocks = dim / ggml_block_values;
  const std::int64_t bits = format == GgmlFormat::q4_0 ? 4 : 8;
  layout_ = {dim, {{"blocks", {{FieldKind::index, bits * dim}, {FieldKind::scale, 16 * blocks}}}}};
}

std::int64_t GgmlBlocks::block_bytes() const {
  return layout_.bytes_per_vector() / (layout_.dim / ggml_block_values);
}

void GgmlBlocks::encode_row(const float* x, std::int64_t row, const Codes<Space::cpu>& code) const {
  std::uint8_t* block = code.arrays[0];
  for (std::int64_t c = 0; c < dim(); c += ggml_block_values, block += block_bytes()) {
    if (format_ == GgmlFormat::q4_0) {
      encode_q4_0(x + c, row, block);
    } else {
      encode_q8_0(x + c, row, block);
    }
  }
}

void GgmlBlocks::decode_row(const ConstCodes<Space::cpu>& code, float* x) const {
  const std::uint8_t* block = code.arrays[0];
  for (std::int64_t c = 0; c < dim(); c += ggml_block_values, block += block_bytes()) {
    const float scale = load_scale(block);
    for (std::int64_t j = 0; j < ggml_block_values; ++j) {
      const int integer = format_ == GgmlFormat::q8_0 ? static_cast<std::int8_t>(block[2 + j])
                          : j < half_block            ? (block[2 + j] & 0xF) - 8
                                                      : (block[2 + j - half_block] >> 4) - 8;
      x[c + j] = static_cast<float>(integer) * scale;
    }
  }
}

QuantizerInfo ggml_quantizer(GgmlFormat format) {
  const bool four = format == GgmlFormat::q4_0;
  const std::string name = four ? "q4_0" : "q8_0";
  QuantizerInfo info{name,
                     four ? "ggml blocks of 32 values: 4-bit indices about 0 and a 16-bit scale"
                          : "ggml blocks of 32 values: 8-bit integers and a 16-bit scale",
                     "ggml-quants.c; llama.cpp's cache types",
                     {},
                     name,
                     four ? 4 : 8,
                     [format](const ParameterReader&, const BuildRequest& request) {
                       return std::make_shared<GgmlBlocks>(format, request.dim);
                     }};
  info.max_bits = info.min_bits;
  info.seeded = false;
  info.dim_multiple = ggml_block_values;
  return info;
}

}  // namespace rotorquant
