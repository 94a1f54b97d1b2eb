#include "rotorquant/quantizers/calibrated.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "rotorquant/codebooks/lloyd_max.hpp"
#include "rotorquant/codes/bit_string.hpp"
#include "rotorquant/core/dense_product.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/half.hpp"

namespace rotorquant {
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

  const std::vector<double> transform = parameters_->transform.matrix();
  const std::vector<double> inverse = parameters_->transform.inverse();
  const std::vector<double> deviations = sequence_deviations(*parameters_, adaptation_);
  const std::span<const std::int32_t> order = planes_.order();
  forward_.resize(n * n);
  backward_.resize(n * n);
  std::vector<double> columns(n *
                              n);  // F^-1 sigma, column by column: columns[k, i] = (F^-1)[i, order k] sigma_k
  for (std::size_t k = 0; k < n; ++k) {
    const auto coordinate = static_cast<std::size_t>(order[k]);
    for (std::size_t i = 0; i < n; ++i) {
      forward_[i * n + k] = static_cast<float>(transform[coordinate * n + i] / deviations[coordinate]);
      columns[k * n + i] = inverse[i * n + coordinate] * deviations[coordinate];
      backward_[k * n + i] = static_cast<float>(columns[k * n + i]);
    }
  }
  centroids_forward_.resize(parameters_->centroids.size());
  const std::int64_t num_centroids = parameters_->num_centroids();
  dense_product({parameters_->centroids.data(), num_centroids, dim}, {forward_.data(), dim, dim},
                {centroids_forward_.data(), num_centroids, dim});

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

float CalibratedCodec::scale_of(int code) const {
  const ScaleCode& format = parameters_->scale;
  const int steps = code - (1 << (format.bits - 1)) + format.zero;
  return static_cast<float>(std::exp2(static_cast<double>(steps) / format.steps_per_octave));
}

void CalibratedCodec::decode(const Context& context, ConstCodes<Space::cpu> codes, HostView<float> x) const {
  const auto n = static_cast<std::size_t>(layout_.dim);
  const std::int64_t stride = layout_.arrays[0].bytes_per_vector();
  const auto field = [](const trellis::BitString& string, std::int64_t bit, int bits) {
    return static_cast<int>(trellis::load_bits(string, static_cast<std::size_t>(bit)) & ((1U << bits) - 1U));
  };
  parallel_chunks(context, x.rows, vectors_per_block, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t count = end - begin;
    std::vector<std::uint8_t> symbols(static_cast<std::size_t>(planes_.symbol_bytes()));
    std::vector<float> scaled(static_cast<std::size_t>(count) * n);
    std::vector<float> values(n);
    CalibratedTrellis::Workspace trellis_workspace;
    std::vector<std::size_t> centroids(static_cast<std::size_t>(count));
    for (std::int64_t t = 0; t < count; ++t) {
      const trellis::BitString string{codes.arrays[0] + (begin + t) * stride,
                                      static_cast<std::size_t>(stride)};
      planes_.read(string, 0, symbols.data());
      const int centroid = field(string, planes_.bits(), parameters_->centroid_bits);
      if (centroid >= parameters_->num_centroids()) {
        throw Error("decode: row " + std::to_string(begin + t) + " names centroid " +
                    std::to_string(centroid) + "; valid: 0.." +
                    std::to_string(parameters_->num_centroids() - 1));
      }
      centroids[static_cast<std::size_t>(t)] = static_cast<std::size_t>(centroid);
      const float scale =
          scale_of(field(string, planes_.bits() + parameters_->centroid_bits, parameters_->scale.bits));
      if (trellis_) {
        trellis_->decode(symbols.data(), values.data(), trellis_workspace);
      } else {
        for (std::size_t i = 0; i < n; ++i) values[i] = levels_at(static_cast<std::int64_t>(i))[symbols[i]];
      }
      for (std::size_t i = 0; i < n; ++i) scaled[static_cast<std::size_t>(t) * n + i] = scale * values[i];
    }
    dense_product({scaled.data(), count, layout_.dim}, {backward_.data(), layout_.dim, layout_.dim},
                  x.row_range(begin, count));
    for (std::int64_t t = 0; t < count; ++t) {
      const float* centroid = parameters_->centroids.data() + centroids[static_cast<std::size_t>(t)] * n;
      float* row = x.row(begin + t);
      for (std::size_t i = 0; i < n; ++i) row[i] += shift_[i] + centroid[i];
    }
  });
}

}  // namespace rotorquant
