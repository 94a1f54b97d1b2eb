#include "rotorquant/quantizers/rabitq.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>
#include <utility>

#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/core/dot_product.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/rotations/registry.hpp"

namespace rotorquant {
namespace {

// A coordinate's magnitude takes its next level when the grid has shrunk to 1 / at of the vector.
struct Step {
  double at;
  std::int32_t coordinate;
};

}  // namespace

void nearest_grid_direction(const float* y, std::int64_t count, int bits, std::uint8_t* levels) {
  // Magnitudes are m + 1/2 for m = 0..top; the grid's own scale does not matter here.
  const int top = (1 << (bits - 1)) - 1;
  std::vector<Step> steps;
  steps.reserve(static_cast<std::size_t>(count * top));
  double along = 0.0;
  for (std::int64_t i = 0; i < count; ++i) {
    const double magnitude = std::abs(static_cast<double>(y[i]));
    along += 0.5 * magnitude;
    if (magnitude == 0.0) continue;
    for (int m = 1; m <= top; ++m) steps.push_back({m / magnitude, static_cast<std::int32_t>(i)});
  }
  std::sort(steps.begin(), steps.end(), [](const Step& a, const Step& b) {
    return std::tie(a.at, a.coordinate) < std::tie(b.at, b.coordinate);
  });
  std::vector<int> magnitudes(static_cast<std::size_t>(count), 0);
  double squares = 0.25 * static_cast<double>(count);
  double best_along = along, best_squares = squares;
  std::size_t best = 0;  // steps taken at the greatest cosine
  for (std::size_t s = 0; s < steps.size(); ++s) {
    const auto i = static_cast<std::size_t>(steps[s].coordinate);
    along += std::abs(static_cast<double>(y[i]));
    squares += 2.0 * ++magnitudes[i];
    if (along * along * best_squares > best_along * best_along * squares) {
      best_along = along;
      best_squares = squares;
      best = s + 1;
    }
  }
  std::fill(magnitudes.begin(), magnitudes.end(), 0);
  for (std::size_t s = 0; s < best; ++s) ++magnitudes[static_cast<std::size_t>(steps[s].coordinate)];
  for (std::int64_t i = 0; i < count; ++i) {
    const int magnitude = magnitudes[static_cast<std::size_t>(i)];
    levels[i] = static_cast<std::uint8_t>(y[i] < 0.0F ? top - magnitude : top + 1 + magnitude);
  }
}

RabitqCodec::RabitqCodec(std::shared_ptr<const Rotation> rotation, int bits, NormType norm_type)
    : RotatedCodec(std::move(rotation)), bits_(bits), norm_type_(norm_type) {
  const std::int64_t dim = this->rotation().output_dim();
  layout_.arrays.push_back(plane_array("levels", FieldKind::index, dim, bits_));
  layout_.arrays.push_back(number_array("scales", FieldKind::scale, norm_bits(norm_type_)));
  const int count = 1 << bits_;
  const double step = 1.0 / ((count - 1) * std::sqrt(static_cast<double>(dim)));
  for (int k = 0; k < count; ++k) levels_.push_back(static_cast<float>((2 * k + 1 - count) * step));
}

void RabitqCodec::encode_block(const ConstHostTensor& tensor, std::int64_t first_row,
                               Codes<Space::cpu> codes) const {
  static thread_local std::vector<float> storage;
  const HostView<const float> x = as_floats(tensor, storage);
  const std::int64_t dim = rotation().output_dim();
  std::vector<float> rotated(static_cast<std::size_t>(x.rows * dim));
  for (std::int64_t r = 0; r < x.rows; ++r) {
    if (!std::isfinite(static_cast<float>(std::sqrt(squared_norm(x.row(r), x.cols)))))
      refuse_value(first_row + r, x.row(r), x.cols);
  }
  rotation().apply(x, {rotated.data(), x.rows, dim});
  std::vector<std::uint8_t> levels(static_cast<std::size_t>(dim));
  for (std::int64_t r = 0; r < x.rows; ++r) {
    const float* y = rotated.data() + r * dim;
    nearest_grid_direction(y, dim, bits_, levels.data());
    double along = 0.0, squares = 0.0;
    for (std::int64_t c = 0; c < dim; ++c) {
      const auto value = static_cast<double>(y[c]);
      along += value * static_cast<double>(levels_[levels[static_cast<std::size_t>(c)]]);
      squares += value * value;
    }
    const float scale = along > 0.0 ? static_cast<float>(squares / along) : 0.0F;
    check_norm(norm_type_, scale, first_row + r);
    pack_planes(levels.data(), dim, bits_, codes.arrays[0] + r * layout_.arrays[0].bytes_per_vector());
    store_norm(norm_type_, scale, codes.arrays[1] + r * layout_.arrays[1].bytes_per_vector());
  }
}

void RabitqCodec::load_block(ConstCodes<Space::cpu> codes, HostView<float> values, float* scales) const {
  std::vector<std::uint8_t> levels(static_cast<std::size_t>(values.cols));
  for (std::int64_t r = 0; r < codes.count; ++r) {
    unpack_planes(codes.arrays[0] + r * layout_.arrays[0].bytes_per_vector(), values.cols, bits_,
                  levels.data());
    for (std::int64_t c = 0; c < values.cols; ++c)
      values.row(r)[c] = levels_[levels[static_cast<std::size_t>(c)]];
    scales[r] = load_norm(norm_type_, codes.arrays[1] + r * layout_.arrays[1].bytes_per_vector());
  }
}

QuantizerInfo rabitq_quantizer() {
  return {"rabitq",
          "random rotation, the best direction of a uniform grid, and a factor that makes inner products "
          "unbiased",
          "Gao et al., extended RaBitQ, arXiv 2409.09913",
          {{"rotation", "haar|hadamard", "haar", "rotation before the grid"},
           {"norm", "fp16|fp32", "fp16", "stored type of the factor"}},
          "rabitq",
          1,
          [](const ParameterReader& parameters, const BuildRequest& request) {
            return std::make_shared<RabitqCodec>(
                make_rotation(parameters.choice("rotation"), request.dim, request.seed, {}), request.bits,
                parameters.choice("norm") == "fp16" ? NormType::fp16 : NormType::fp32);
          }};
}

}  // namespace rotorquant
