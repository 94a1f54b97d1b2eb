#include "rotorquant/quantizers/trellis_codec.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "rotorquant/core/dot_product.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/device/device_quantizer.hpp"

namespace rotorquant {
namespace {

constexpr std::int64_t scale_code_bits = 8;

int checked_dim(std::int64_t dim) {
  if (dim > max_trellis_dim) {
    throw Error("a trellis code of " + std::to_string(dim) + " coordinates is not supported; valid: 1.." +
                std::to_string(max_trellis_dim));
  }
  return static_cast<int>(dim);
}

}  // namespace

TrellisCodec::TrellisCodec(std::shared_ptr<const Rotation> rotation, int bits, int memory,
                           const TrellisValueOptions& options)
    : RotatedCodec(std::move(rotation)),
      format_(checked_dim(this->rotation().output_dim()), bits, memory, options) {
  std::int64_t index_bits = 0;
  for (const std::uint8_t width : format_.widths()) index_bits += width;
  CodeArray array{"codes", {{FieldKind::scale, scale_code_bits}, {FieldKind::index, index_bits}}};
  const std::int64_t unused = 8 * format_.bytes_per_vector() - scale_code_bits - index_bits;
  if (unused > 0) array.fields.push_back({FieldKind::padding, unused});
  layout_.arrays.push_back(std::move(array));
}

std::optional<std::string> TrellisCodec::unsupported_on(Space space) const {
  return space == Space::cpu ? std::nullopt : unsupported_device_dim(rotation().output_dim());
}

void TrellisCodec::encode_block(const ConstHostTensor& tensor, std::int64_t first_row,
                                Codes<Space::cpu> codes) const {
  static thread_local std::vector<float> storage;
  const HostView<const float> x = as_floats(tensor, storage);
  const std::int64_t rotated_dim = rotation().output_dim();
  const auto largest_scale = static_cast<double>(format_.scales().back());
  for (std::int64_t r = 0; r < x.rows; ++r) {
    const double energy = squared_norm(x.row(r), x.cols);
    if (!std::isfinite(energy)) refuse_value(first_row + r, x.row(r), x.cols);
    const double root_mean_square = std::sqrt(energy / static_cast<double>(rotated_dim));
    if (root_mean_square > largest_scale) {
      throw Error("encode: row " + std::to_string(first_row + r) + " has root mean square " +
                  std::to_string(root_mean_square) + ", above the trellis code's scales (up to " +
                  std::to_string(largest_scale) + "); valid: such rows with a larger scale_offset");
    }
  }
  std::vector<float> rotated(static_cast<std::size_t>(x.rows * rotated_dim));
  rotation().apply(x, {rotated.data(), x.rows, rotated_dim});
  TrellisWorkspace workspace;
  for (std::int64_t r = 0; r < x.rows; ++r) {
    format_.encode(rotated.data() + r * rotated_dim, codes.arrays[0] + r * format_.bytes_per_vector(),
                   workspace);
  }
}

void TrellisCodec::load_block(ConstCodes<Space::cpu> codes, HostView<float> values, float* scales) const {
  for (std::int64_t r = 0; r < codes.count; ++r) {
    format_.decode(codes.arrays[0] + r * format_.bytes_per_vector(), values.row(r));
  }
  std::fill_n(scales, codes.count, 1.0F);
}

}  // namespace rotorquant
