#include "rotorquant/quantizers/scalar_codec.hpp"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/core/dot_product.hpp"
#include "rotorquant/core/error.hpp"

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
                         ScaleRule scale_rule)
    : RotatedCodec(std::move(rotation)),
      codebook_(std::move(codebook)),
      norm_type_(norm_type),
      scale_rule_(scale_rule) {
  layout_.arrays.push_back(
      plane_array("indices", FieldKind::index, this->rotation().output_dim(), codebook_.bits()));
  if (scale_rule_ != ScaleRule::none) {
    const FieldKind kind = scale_rule_ == ScaleRule::norm ? FieldKind::norm : FieldKind::scale;
    layout_.arrays.push_back(number_array("norms", kind, norm_bits(norm_type_)));
  }
}

void ScalarCodec::encode_block(HostView<const float> x, std::int64_t first_row,
                               Codes<Space::cpu> codes) const {
  const std::int64_t rotated_dim = rotation().output_dim();
  std::vector<float> unit(static_cast<std::size_t>(x.size()));
  std::vector<float> rotated(static_cast<std::size_t>(x.rows * rotated_dim));
  std::vector<float> norms(static_cast<std::size_t>(x.rows));
  for (std::int64_t r = 0; r < x.rows; ++r) {
    const float* row = x.row(r);
    const auto norm = static_cast<float>(std::sqrt(squared_norm(row, x.cols)));
    if (!std::isfinite(norm)) refuse_value(first_row + r, row, x.cols);
    const float divisor = scale_rule_ == ScaleRule::none ? 1.0F : std::max(norm, norm_floor);
    for (std::int64_t c = 0; c < x.cols; ++c)
      unit[static_cast<std::size_t>(r * x.cols + c)] = row[c] / divisor;
    norms[static_cast<std::size_t>(r)] = norm_type_ == NormType::reference ? divisor : norm;
  }
  rotation().apply({unit.data(), x.rows, x.cols}, {rotated.data(), x.rows, rotated_dim});
  const std::int64_t code_bytes = layout_.arrays[0].bytes_per_vector();
  std::vector<std::uint8_t> indices(static_cast<std::size_t>(rotated_dim));
  for (std::int64_t r = 0; r < x.rows; ++r) {
    const float* y = rotated.data() + r * rotated_dim;
    quantize_coordinates(codebook_, y, rotated_dim, indices.data());
    pack_planes(indices.data(), rotated_dim, codebook_.bits(), codes.arrays[0] + r * code_bytes);
    if (scale_rule_ == ScaleRule::none) continue;
    const float scale = stored_scale(norms[static_cast<std::size_t>(r)], y, indices.data());
    check_norm(norm_type_, scale, first_row + r);
    store_norm(norm_type_, scale, codes.arrays[1] + r * layout_.arrays[1].bytes_per_vector());
  }
}

float ScalarCodec::stored_scale(float norm, const float* y, const std::uint8_t* indices) const {
  if (scale_rule_ == ScaleRule::norm || norm == 0.0F) return norm;
  double along = 0.0, decoded_sq = 0.0, rotated_sq = 0.0;
  for (std::int64_t c = 0; c < rotation().output_dim(); ++c) {
    const auto decoded = static_cast<double>(codebook_.centroids[indices[c]]);
    along += static_cast<double>(y[c]) * decoded;
    decoded_sq += decoded * decoded;
    rotated_sq += static_cast<double>(y[c]) * static_cast<double>(y[c]);
  }
  // Every coordinate lies in its centroid's cell, so that <y, y^> is positive unless y is 0.
  if (along <= 0.0) return norm;
  const double factor = scale_rule_ == ScaleRule::mse ? along / decoded_sq : rotated_sq / along;
  return static_cast<float>(static_cast<double>(norm) * factor);
}

void ScalarCodec::load_block(ConstCodes<Space::cpu> codes, HostView<float> centroids, float* scales) const {
  const std::int64_t code_bytes = layout_.arrays[0].bytes_per_vector();
  std::vector<std::uint8_t> indices(static_cast<std::size_t>(centroids.cols));
  for (std::int64_t r = 0; r < codes.count; ++r) {
    unpack_planes(codes.arrays[0] + r * code_bytes, centroids.cols, codebook_.bits(), indices.data());
    float* out = centroids.row(r);
    for (std::int64_t c = 0; c < centroids.cols; ++c)
      out[c] = codebook_.centroids[indices[static_cast<std::size_t>(c)]];
    scales[r] = scale_rule_ == ScaleRule::none
                    ? 1.0F
                    : load_norm(norm_type_, codes.arrays[1] + r * layout_.arrays[1].bytes_per_vector());
  }
}

}  // namespace rotorquant
