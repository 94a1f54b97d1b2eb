#include "rotorquant/quantizers/scalar_codec.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/core/elements.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/scratch.hpp"
#include "rotorquant/device/device_quantizer.hpp"

namespace rotorquant {
namespace {

// Up to this many boundaries, counting over all of them (a loop without branches that vector units run) beats
// a search.
constexpr std::size_t counted_boundaries = 15;

}  // namespace

void quantize_coordinates(const Codebook& codebook, const float* values, std::int64_t count,
                          std::uint8_t* indices) {
  const std::vector<float>& boundaries = codebook.boundaries;
  if (boundaries.size() <= counted_boundaries) {
    std::fill_n(indices, count, std::uint8_t{0});
    for (const float boundary : boundaries) {
      for (std::int64_t i = 0; i < count; ++i)
        indices[i] = static_cast<std::uint8_t>(indices[i] + (values[i] > boundary));
    }
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    const auto first_not_below = std::lower_bound(boundaries.begin(), boundaries.end(), values[i]);
    indices[i] = static_cast<std::uint8_t>(first_not_below - boundaries.begin());
  }
}

ScalarCodec::ScalarCodec(std::shared_ptr<const Rotation> rotation, Codebook codebook, NormType norm_type,
                         ScaleRule scale_rule, Isa isa)
    : RotatedCodec(std::move(rotation), isa),
      tables_(codebook),
      norm_type_(norm_type),
      scale_rule_(scale_rule) {
  layout_.arrays.push_back(
      plane_array("indices", FieldKind::index, this->rotation().output_dim(), tables_.bits));
  if (scale_rule_ != ScaleRule::none) {
    const FieldKind kind = scale_rule_ == ScaleRule::norm ? FieldKind::norm : FieldKind::scale;
    layout_.arrays.push_back(number_array("norms", kind, norm_bits(norm_type_)));
  }
}

std::optional<std::string> ScalarCodec::unsupported_on(Space space) const {
  return space == Space::cpu ? std::nullopt : unsupported_device_dim(rotation().output_dim());
}

// Norms [x.rows] as unit_factors gives them, and planes. The rotated coordinates [x.rows, output_dim], until
// the next call on this thread, or null where they were never in memory.
const float* ScalarCodec::encode_indices(const ConstHostTensor& x, float* norms, std::uint8_t* planes) const {
  const bool usual_scale = scale_rule_ == ScaleRule::norm;
  if (usual_scale && tables_.registers &&
      rotation().unit_rows_to_planes(x, norms, *tables_.registers, planes))
    return nullptr;
  static thread_local ScratchFloats rotated_scratch, factor_scratch;
  float* factors = factor_scratch.reserve(x.rows);
  kernels_.unit_factors(x, norms, factors);
  if (scale_rule_ == ScaleRule::none) std::fill_n(factors, x.rows, 1.0F);
  const std::int64_t rotated_dim = rotation().output_dim();
  float* rotated = rotated_scratch.reserve(x.rows * rotated_dim);
  rotation().apply_scaled(x, factors, {rotated, x.rows, rotated_dim});
  kernels_.quantize(tables_, rotated, x.rows, rotated_dim, planes);
  return rotated;
}

void ScalarCodec::encode_block(const ConstHostTensor& x, std::int64_t first_row,
                               Codes<Space::cpu> codes) const {
  static thread_local ScratchFloats norm_scratch;
  float* norms = norm_scratch.reserve(x.rows);
  const float* rotated = encode_indices(x, norms, codes.arrays[0]);
  bool finite = true;
  for (std::int64_t r = 0; r < x.rows; ++r) finite &= norms[r] <= std::numeric_limits<float>::max();
  for (std::int64_t r = 0; r < x.rows && !finite; ++r) {
    if (std::isfinite(norms[r])) continue;
    std::vector<float> row(static_cast<std::size_t>(x.cols));
    load_elements(x.type, x.row(r), x.cols, row.data());
    refuse_value(first_row + r, row.data(), x.cols);
  }
  if (scale_rule_ == ScaleRule::none) return;
  if (scale_rule_ == ScaleRule::norm && norm_type_ == NormType::fp16) {
    kernels_.half_norms(x, norms, codes.arrays[1]);
    // Zeros may be norms too small for 16 bits.
    bool usual = true;
    for (std::int64_t r = 0; r < x.rows; ++r) {
      std::uint16_t half = 0;
      std::memcpy(&half, codes.arrays[1] + 2 * r, sizeof half);
      usual &= half != 0 && half < half_infinity;
    }
    if (usual) return;
    kernels_.exact_norms(x, norms);
    for (std::int64_t r = 0; r < x.rows; ++r) check_norm(norm_type_, norms[r], first_row + r);
    return;
  }
  kernels_.exact_norms(x, norms);
  const std::int64_t rotated_dim = rotation().output_dim();
  const std::int64_t code_bytes = tables_.bits * plane_bytes(rotated_dim);
  for (std::int64_t r = 0; r < x.rows; ++r) {
    float norm = norms[r];
    if (norm_type_ == NormType::reference) norm = std::max(norm, norm_floor);
    const float scale = rotated == nullptr
                            ? norm
                            : stored_scale(norm, rotated + r * rotated_dim, codes.arrays[0] + r * code_bytes);
    check_norm(norm_type_, scale, first_row + r);
    store_norm(norm_type_, scale, codes.arrays[1] + r * norm_bits(norm_type_) / 8);
  }
}

float ScalarCodec::stored_scale(float norm, const float* y, const std::uint8_t* planes) const {
  if (scale_rule_ == ScaleRule::norm || norm == 0.0F) return norm;
  const std::int64_t rotated_dim = rotation().output_dim();
  static thread_local std::vector<float> centroids;
  centroids.resize(static_cast<std::size_t>(rotated_dim));
  kernels_.look_up(tables_, planes, 1, rotated_dim, centroids.data());
  double along = 0.0, decoded_sq = 0.0, rotated_sq = 0.0;
  for (std::int64_t c = 0; c < rotated_dim; ++c) {
    const auto decoded = static_cast<double>(centroids[static_cast<std::size_t>(c)]);
    along += static_cast<double>(y[c]) * decoded;
    decoded_sq += decoded * decoded;
    rotated_sq += static_cast<double>(y[c]) * static_cast<double>(y[c]);
  }
  // Every coordinate lies in its centroid's cell, so that <y, y^> is positive unless y is 0.
  if (along <= 0.0) return norm;
  const double factor = scale_rule_ == ScaleRule::mse ? along / decoded_sq : rotated_sq / along;
  return static_cast<float>(static_cast<double>(norm) * factor);
}

void ScalarCodec::decode_block(ConstCodes<Space::cpu> codes, bool stream, const HostTensor& x) const {
  if (tables_.registers && rotation().apply_transpose_of_planes(codes.arrays[0], *tables_.registers,
                                                                load_scales(codes), stream, x))
    return;
  RotatedCodec::decode_block(codes, stream, x);
}

void ScalarCodec::load_block(ConstCodes<Space::cpu> codes, HostView<float> centroids, float* scales) const {
  kernels_.look_up(tables_, codes.arrays[0], codes.count, centroids.cols, centroids.data);
  std::copy_n(load_scales(codes), codes.count, scales);
}

// The stored scales in float32, [codes.count], until the next call on this thread.
const float* ScalarCodec::load_scales(ConstCodes<Space::cpu> codes) const {
  static thread_local ScratchFloats scratch;
  float* scales = scratch.reserve(codes.count);
  if (scale_rule_ == ScaleRule::none) {
    std::fill_n(scales, codes.count, 1.0F);
  } else {
    const auto type = norm_type_ == NormType::fp16 ? ElementType::float16 : ElementType::float32;
    load_elements(type, codes.arrays[1], codes.count, scales);
  }
  return scales;
}

void ScalarCodec::score_block(const ScoreQueries& queries, ConstCodes<Space::cpu> codes,
                              const ScoreRows& scores) const {
  kernels_.score_codes(tables_, queries, codes.arrays[0], load_scales(codes), codes.count, scores);
}

void ScalarCodec::score_int8(const Context& context, HostView<const float> queries,
                             ConstCodes<Space::cpu> codes, HostView<float> scores) const {
  if (tables_.levels.empty()) return score(context, queries, codes, scores);
  const std::int64_t dim = rotation().output_dim();
  constexpr std::int64_t padding = 64;
  const std::int64_t stride = (dim + padding - 1) / padding * padding;
  std::vector<float> rotated(static_cast<std::size_t>(queries.rows * dim));
  rotation().apply(queries, {rotated.data(), queries.rows, dim});
  std::vector<std::int8_t> integers(static_cast<std::size_t>(queries.rows * stride));
  std::vector<float> factors(static_cast<std::size_t>(queries.rows));
  std::vector<std::int32_t> sums(static_cast<std::size_t>(queries.rows));
  for (std::int64_t i = 0; i < queries.rows; ++i) {
    const float* row = rotated.data() + i * dim;
    float largest = 0.0F;
    for (std::int64_t c = 0; c < dim; ++c) largest = std::max(largest, std::abs(row[c]));
    const float step = largest / 127.0F;
    factors[static_cast<std::size_t>(i)] = step * tables_.level_factor;
    for (std::int64_t c = 0; c < dim && step > 0.0F; ++c) {
      const auto integer = static_cast<std::int8_t>(std::lround(row[c] / step));
      integers[static_cast<std::size_t>(i * stride + c)] = integer;
      sums[static_cast<std::size_t>(i)] += integer;
    }
  }
  const IntegerQueries prepared{integers.data(), factors.data(), sums.data(), queries.rows, dim, stride};
  parallel_chunks(context, codes.count, vectors_per_chunk, [&](std::int64_t begin, std::int64_t end) {
    const ConstCodes<Space::cpu> part = slice(codes, begin, end - begin);
    kernels_.score_integers(tables_, prepared, part.arrays[0], load_scales(part), part.count,
                            {scores.data + begin, scores.cols});
  });
}

}  // namespace rotorquant
