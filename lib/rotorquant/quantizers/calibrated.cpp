#include "rotorquant/quantizers/calibrated.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "rotorquant/codebooks/lloyd_max.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/half.hpp"
#include "rotorquant/core/scratch.hpp"
#include "rotorquant/device/device_quantizer.hpp"

namespace rotorquant {
namespace {

// What the lanes of a warp hold.
constexpr int most_device_pairs = 32;

}  // namespace

WidthDistortions code_distortions(const CalibratedCode& code) {
  return code.kind == CalibratedCodecKind::trellis ? trellis_distortions(code.memory)
                                                   : lloyd_max_distortions();
}

CalibratedCodec::CalibratedCodec(std::shared_ptr<const CalibratedParameters> parameters,
                                 SequenceAdaptation adaptation, CalibratedSearch search, CalibratedCode code,
                                 Isa isa)
    : parameters_((parameters->validate(), std::move(parameters))),
      adaptation_(std::move(adaptation)),
      search_(search),
      isa_(isa),
      widths_(sequence_widths(*parameters_, adaptation_, code_distortions(code))),
      planes_(widths_) {
  if (search_.trellis_candidates < 1) {
    throw Error("calibrated keys: " + std::to_string(search_.trellis_candidates) +
                " trellis candidates; valid: 1 or more");
  }
  const std::int64_t dim = parameters_->dim;
  const auto n = static_cast<std::size_t>(dim);
  const std::int64_t stored = planes_.bits() + parameters_->centroid_bits + parameters_->scale.bits;
  layout_.dim = dim;
  CodeArray array{"codes", {{FieldKind::index, planes_.bits()}}};
  if (parameters_->centroid_bits > 0)
    array.fields.push_back({FieldKind::centroid, parameters_->centroid_bits});
  array.fields.push_back({FieldKind::scale, parameters_->scale.bits});
  if (stored % 8 != 0) array.fields.push_back({FieldKind::padding, 8 - stored % 8});
  layout_.arrays.push_back(std::move(array));

  for (int width = 0; width <= max_width; ++width) codebooks_.emplace_back(width);

  shift_.assign(n, 0.0F);
  for (std::size_t i = 0; i < adaptation_.shift.size(); ++i) shift_[i] = half_to_float(adaptation_.shift[i]);

  const std::vector<double> inverse = parameters_->transform.inverse();
  const std::vector<double> deviations = sequence_deviations(*parameters_, adaptation_);
  const std::span<const std::int32_t> order = planes_.order();
  backward_.resize(n * n);
  std::vector<double> columns(n *
                              n);  // F^-1 sigma, column by column: columns[k, i] = (F^-1)[i, order k] sigma_k
  for (std::size_t k = 0; k < n; ++k) {
    const auto coordinate = static_cast<std::size_t>(order[k]);
    for (std::size_t i = 0; i < n; ++i) {
      columns[k * n + i] = inverse[i * n + coordinate] * deviations[coordinate];
      backward_[k * n + i] = static_cast<float>(columns[k * n + i]);
    }
  }
  metric_.resize(n * n);
  diagonal_.resize(n);
  std::vector<double> row(n);
  for (std::size_t k = 0; k < n; ++k) {
    for (std::size_t j = 0; j < n; ++j) {
      row[j] = 0.0;
      for (std::size_t i = 0; i < n; ++i) {
        row[j] += columns[k * n + i] * static_cast<double>(parameters_->query_metric[i * n + j]);
      }
    }
    for (std::size_t l = 0; l < n; ++l) {
      double sum = 0.0;
      for (std::size_t j = 0; j < n; ++j) sum += row[j] * columns[l * n + j];
      metric_[k * n + l] = static_cast<float>(sum);
    }
    diagonal_[k] = metric_[k * n + k];
  }
  code_ = {&planes_, layout_.arrays[0].bytes_per_vector(), parameters_->centroid_bits,
           parameters_->scale.bits};
  scale_codes_ = ScaleCodes(parameters_->scale, dim);
  forward_ = forward_program(parameters_->transform, deviations, order);
  centroid_search_ = CentroidSearch(parameters_->centroids, shift_);
  make_grids();
  ScratchFloats columns_of_centroids;
  float* block = columns_of_centroids.reserve(dim * cascade_lanes);
  centroids_forward_.resize(parameters_->centroids.size());
  const std::vector<float> no_shift(n);
  for (std::int64_t first = 0; first < parameters_->num_centroids(); first += cascade_lanes) {
    const std::int64_t count = std::min(cascade_lanes, parameters_->num_centroids() - first);
    const ConstHostTensor rows{parameters_->centroids.data() + first * dim, ElementType::float32, count, dim};
    load_keys(isa_, rows, no_shift.data(), forward_, nullptr, block, nullptr);
    run_steps(isa_, forward_.steps, block);
    columns_to_rows(block, {centroids_forward_.data() + first * dim, count, dim});
  }
  centroid_tables_ = OffsetTables(centroids_forward_, dim);
  inverse_ = inverse_program(parameters_->transform, deviations, order);
  inverse_stages_ = stages_of(inverse_);
  if (code.kind == CalibratedCodecKind::lloyd_max)
    level_tables_.emplace(planes_, codebooks_, inverse_, inverse_stages_.first);
  std::vector<float> offsets = parameters_->centroids;
  for (std::size_t i = 0; i < offsets.size(); ++i) offsets[i] += shift_[i % n];
  offset_tables_ = OffsetTables(offsets, dim);

  level_search_.dim = dim;
  level_search_.ends[0] = dim;
  for (int width = 1; width <= max_width; ++width)
    level_search_.ends[static_cast<std::size_t>(width)] = planes_.count_at_least(width);
  level_search_.levels = codebooks_.data();
  level_search_.diagonal = diagonal_.data();
  if (code.kind == CalibratedCodecKind::trellis) {
    // The metric is the trellis' from here on: descent over single indices does not apply to its symbols.
    trellis_.emplace(widths_, order, std::move(metric_), code.memory);
  }
}

void CalibratedCodec::make_grids() {
  if (!CentroidGrid::estimates_with(isa_)) return;
  // The largest standard deviation of a coordinate of n F^-1 (sigma y), y of N(0, 1), at the middle scale.
  const auto n = static_cast<std::size_t>(layout_.dim);
  double largest = 0.0;
  for (std::size_t i = 0; i < n; ++i) {
    double square = 0.0;
    for (std::size_t k = 0; k < n; ++k) {
      const auto part = static_cast<double>(backward_[k * n + i]);
      square += part * part;
    }
    largest = std::max(largest, square);
  }
  const double deviation = static_cast<double>(scale_of(scale_codes_.count() / 2)) * std::sqrt(largest);
  // Keys of a few times the middle scale on the first grid, of far more on the other.
  for (const double reach : {16.0, 512.0}) {
    CentroidGrid grid(parameters_->centroids, shift_, reach * deviation);
    const bool overflows =
        !(largest_column(forward_, grid.keys().largest()) < std::numeric_limits<float>::max());
    if (grid.keys().usable() && !overflows) grids_.push_back(std::move(grid));
  }
}

std::optional<std::string> CalibratedCodec::unsupported_on(Space space) const {
  if (space == Space::cpu) return std::nullopt;
  if (trellis_ &&
      (search_.trellis_candidates > most_device_pairs || search_.trellis_refinements > most_device_pairs)) {
    return "a GPU tries up to " + std::to_string(most_device_pairs) + " pairs of centroid and scale";
  }
  return unsupported_device_dim(layout_.dim);
}

}  // namespace rotorquant
