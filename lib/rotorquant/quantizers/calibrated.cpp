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
#include "rotorquant/core/dot_product.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/half.hpp"

namespace rotorquant {
namespace {

// The grid of Levels: the outermost level of 8 bits lies at 4.6.
constexpr float grid_reach = 5.0F;
constexpr int grid_cells = 1024;

// A residual shorter than this counts as this long: the scale code needs a logarithm.
constexpr double scale_floor = 1e-4;

}  // namespace

CalibratedCodec::Levels::Levels(int width) {
  if (width == 0) {
    levels_ = {0.0F};
  } else {
    for (const double level : lloyd_max_normal_levels(width)) levels_.push_back(static_cast<float>(level));
    for (std::size_t i = 0; i + 1 < levels_.size(); ++i)
      boundaries_.push_back(0.5F * (levels_[i] + levels_[i + 1]));
  }
  boundaries_.push_back(std::numeric_limits<float>::infinity());
  starts_.resize(grid_cells);
  for (int cell = 0; cell < grid_cells; ++cell) {
    // One cell of slack, so that rounding in the cell's number cannot start beyond the answer.
    const float edge = (static_cast<float>(cell) - 1.0F) * (2.0F * grid_reach / grid_cells) - grid_reach;
    const auto below =
        cell == 0 ? boundaries_.begin() : std::lower_bound(boundaries_.begin(), boundaries_.end(), edge);
    starts_[static_cast<std::size_t>(cell)] = static_cast<std::uint8_t>(below - boundaries_.begin());
  }
}

std::uint8_t CalibratedCodec::Levels::index_of(float y) const {
  const float cell =
      std::clamp((y + grid_reach) * (grid_cells / (2.0F * grid_reach)), 0.0F, grid_cells - 1.0F);
  std::uint8_t index = starts_[static_cast<std::size_t>(cell)];
  while (boundaries_[index] < y) ++index;
  return index;
}

struct CalibratedCodec::Workspace {
  explicit Workspace(std::size_t dim, std::size_t symbol_bytes, std::size_t num_centroids)
      : y(dim),
        best_y(dim),
        error(dim),
        gradient(dim),
        symbols(symbol_bytes),
        best(symbol_bytes),
        costs(num_centroids),
        scale_codes(num_centroids),
        order(num_centroids) {}

  std::vector<float> y;               // [dim] F (x - h - c) / sigma of the centroid at hand
  std::vector<float> best_y;          // [dim] of the best centroid so far
  std::vector<float> error;           // [dim] y - n y^
  std::vector<float> gradient;        // [dim] metric times error
  std::vector<std::uint8_t> symbols;  // [symbol_bytes]
  std::vector<std::uint8_t> best;     // [symbol_bytes]
  int best_scale_code = 0;
  std::vector<float> costs;         // [C] at the nearest scale code
  std::vector<int> scale_codes;     // [C] nearest to the residual's norm
  std::vector<std::int32_t> order;  // [C] centroids, best first

  // For trellises alone.
  struct Candidate {
    float cost;  // with scalar levels
    std::size_t centroid;
    int scale_code;
  };
  std::vector<Candidate> candidates;  // [<= trellis_candidates], best first

  // Keeps the `most` best; of equal ones those that came first.
  void offer(const Candidate& candidate, int most) {
    const auto place =
        std::upper_bound(candidates.begin(), candidates.end(), candidate,
                         [](const Candidate& a, const Candidate& b) { return a.cost < b.cost; });
    candidates.insert(place, candidate);
    if (candidates.size() > static_cast<std::size_t>(most)) candidates.pop_back();
  }

  CalibratedTrellis::Workspace trellis;
};

WidthDistortions code_distortions(const CalibratedCode& code) {
  return code.kind == CalibratedCodecKind::trellis ? trellis_distortions(code.memory)
                                                   : lloyd_max_distortions();
}

CalibratedCodec::CalibratedCodec(std::shared_ptr<const CalibratedParameters> parameters,
                                 SequenceAdaptation adaptation, CalibratedSearch search, CalibratedCode code)
    : parameters_((parameters->validate(), std::move(parameters))),
      adaptation_(std::move(adaptation)),
      search_(search),
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

int CalibratedCodec::nearest_scale_code(double scale) const {
  const ScaleCode& format = parameters_->scale;
  const double steps = std::round(format.steps_per_octave * std::log2(std::max(scale, scale_floor)));
  return static_cast<int>(std::clamp(steps - format.zero + (1 << (format.bits - 1)), 0.0,
                                     static_cast<double>((1 << format.bits) - 1)));
}

void CalibratedCodec::encode(const Context& context, HostView<const float> x, Codes<Space::cpu> codes) const {
  const auto n = static_cast<std::size_t>(layout_.dim);
  const std::int64_t stride = layout_.arrays[0].bytes_per_vector();
  parallel_chunks(context, x.rows, vectors_per_block, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t count = end - begin;
    std::vector<float> shifted(static_cast<std::size_t>(count) * n);
    std::vector<float> transformed(static_cast<std::size_t>(count) * n);
    for (std::int64_t t = 0; t < count; ++t) {
      for (std::size_t i = 0; i < n; ++i) {
        const float value = x.row(begin + t)[i];
        if (!std::isfinite(value)) {
          throw Error("encode: row " + std::to_string(begin + t) + ", coordinate " + std::to_string(i) +
                      " is " + std::to_string(value) + "; valid: finite values");
        }
        shifted[static_cast<std::size_t>(t) * n + i] = value - shift_[i];
      }
    }
    dense_product({shifted.data(), count, layout_.dim}, {forward_.data(), layout_.dim, layout_.dim},
                  {transformed.data(), count, layout_.dim});
    Workspace workspace(n, static_cast<std::size_t>(planes_.symbol_bytes()),
                        static_cast<std::size_t>(parameters_->num_centroids()));
    for (std::int64_t t = 0; t < count; ++t) {
      const std::size_t row = static_cast<std::size_t>(t) * n;
      for (std::size_t i = 0; i < n; ++i) {
        if (std::isfinite(transformed[row + i])) continue;
        throw Error("encode: row " + std::to_string(begin + t) +
                    " overflows float32 once transformed; valid: keys like those "
                    "of the calibration");
      }
      encode_vector(transformed.data() + row, shifted.data() + row, codes.arrays[0] + (begin + t) * stride,
                    workspace);
    }
  });
}

// Quantizes y at each scale of [first_code, last_code]; what is below `best` in the diagonal metric becomes
// the workspace's best. Returns the least cost, `best` included.
float CalibratedCodec::search_scales(const float* y, int first_code, int last_code, float best,
                                     Workspace& workspace) const {
  const auto n = static_cast<std::size_t>(layout_.dim);
  const std::int64_t used = planes_.count_at_least(1);
  float unquantized = 0.0F;  // cost of the coordinates without bits, the same at every scale
  for (auto i = static_cast<std::size_t>(used); i < n; ++i) unquantized += diagonal_[i] * y[i] * y[i];
  for (int code = first_code; code <= last_code; ++code) {
    const float scale = scale_of(code);
    const float inverse = 1.0F / scale;
    float cost = unquantized;
    std::int64_t begin = 0;
    for (int width = max_width; width >= 1; --width) {
      const std::int64_t end = planes_.count_at_least(width);
      const Levels& levels = codebooks_[static_cast<std::size_t>(width)];
      for (; begin < end; ++begin) {
        const auto i = static_cast<std::size_t>(begin);
        const std::uint8_t index = levels.index_of(y[i] * inverse);
        workspace.symbols[i] = index;
        const float error = y[i] - scale * levels[index];
        cost += diagonal_[i] * error * error;
      }
    }
    if (cost < best) {
      best = cost;
      std::copy_n(y, n, workspace.best_y.data());
      std::copy_n(workspace.symbols.data(), used, workspace.best.data());
      workspace.best_scale_code = code;
    }
  }
  return best;
}

// Coordinate descent of error^T metric error over the indices of workspace.best at a fixed scale: coordinate
// i moves to the level nearest to the minimum over its own real value, given all other errors.
void CalibratedCodec::descend(float scale, Workspace& workspace) const {
  const auto n = static_cast<std::size_t>(layout_.dim);
  const std::int64_t used = planes_.count_at_least(1);
  const float inverse = 1.0F / scale;
  std::vector<float>& error = workspace.error;
  std::vector<float>& gradient = workspace.gradient;
  error = workspace.best_y;
  for (std::int64_t i = 0; i < used; ++i) {
    error[static_cast<std::size_t>(i)] -= scale * levels_at(i)[workspace.best[static_cast<std::size_t>(i)]];
  }
  dense_product({error.data(), 1, layout_.dim}, {metric_.data(), layout_.dim, layout_.dim},
                {gradient.data(), 1, layout_.dim});
  for (int sweep = 0; sweep < search_.descent_sweeps; ++sweep) {
    bool changed = false;
    for (std::size_t i = 0; i < static_cast<std::size_t>(used); ++i) {
      const Levels& levels = levels_at(static_cast<std::int64_t>(i));
      const std::uint8_t old_index = workspace.best[i];
      const float target = scale * levels[old_index] + gradient[i] / diagonal_[i];
      const std::uint8_t index = levels.index_of(target * inverse);
      if (index == old_index) continue;
      const float step = scale * (levels[index] - levels[old_index]);
      workspace.best[i] = index;
      for (std::size_t j = 0; j < n; ++j) gradient[j] -= step * metric_[i * n + j];
      changed = true;
    }
    if (!changed) break;
  }
}

void CalibratedCodec::encode_vector(const float* transformed, const float* shifted, std::uint8_t* code,
                                    Workspace& workspace) const {
  const auto n = static_cast<std::size_t>(layout_.dim);
  const auto num_centroids = static_cast<std::size_t>(parameters_->num_centroids());
  const int last_scale_code = (1 << parameters_->scale.bits) - 1;
  constexpr float worst = std::numeric_limits<float>::infinity();

  const auto transform_residual = [&](std::size_t centroid) {
    for (std::size_t i = 0; i < n; ++i)
      workspace.y[i] = transformed[i] - centroids_forward_[centroid * n + i];
  };
  const auto distance_to = [&](std::size_t centroid, const std::vector<float>* offset) {
    for (std::size_t i = 0; i < n; ++i) {
      workspace.error[i] = shifted[i] - parameters_->centroids[centroid * n + i];
      if (offset != nullptr) workspace.error[i] += (*offset)[i];
    }
    return squared_norm(workspace.error.data(), layout_.dim);
  };
  for (std::size_t c = 0; c < num_centroids; ++c) {
    const double energy = distance_to(c, nullptr);
    workspace.scale_codes[c] = nearest_scale_code(std::sqrt(energy / static_cast<double>(n)));
  }

  std::size_t tried = 1;
  if (search_.centroid_choices == 0) {
    // Nearest to the key itself, without the shift.
    std::size_t nearest = 0;
    double shortest = std::numeric_limits<double>::infinity();
    for (std::size_t c = 0; c < num_centroids; ++c) {
      const double distance = distance_to(c, &shift_);
      if (distance < shortest) {
        shortest = distance;
        nearest = c;
      }
    }
    workspace.order[0] = static_cast<std::int32_t>(nearest);
  } else {
    for (std::size_t c = 0; c < num_centroids; ++c) {
      transform_residual(c);
      workspace.costs[c] = search_scales(workspace.y.data(), workspace.scale_codes[c],
                                         workspace.scale_codes[c], worst, workspace);
      workspace.order[c] = static_cast<std::int32_t>(c);
    }
    tried = std::min(num_centroids, static_cast<std::size_t>(search_.centroid_choices));
    std::partial_sort(workspace.order.begin(), workspace.order.begin() + static_cast<std::ptrdiff_t>(tried),
                      workspace.order.end(), [&](std::int32_t a, std::int32_t b) {
                        const float cost_a = workspace.costs[static_cast<std::size_t>(a)];
                        const float cost_b = workspace.costs[static_cast<std::size_t>(b)];
                        return cost_a != cost_b ? cost_a < cost_b : a < b;
                      });
  }

  float best = worst;
  std::size_t centroid = 0;
  workspace.candidates.clear();
  for (std::size_t k = 0; k < tried; ++k) {
    const auto c = static_cast<std::size_t>(workspace.order[k]);
    transform_residual(c);
    const int first = std::max(0, workspace.scale_codes[c] - search_.scale_radius);
    const int last = std::min(last_scale_code, workspace.scale_codes[c] + search_.scale_radius);
    if (trellis_) {
      for (int scale_code = first; scale_code <= last; ++scale_code) {
        const float cost = search_scales(workspace.y.data(), scale_code, scale_code, worst, workspace);
        workspace.offer({cost, c, scale_code}, search_.trellis_candidates);
      }
      continue;
    }
    const float cost = search_scales(workspace.y.data(), first, last, best, workspace);
    if (cost < best) {
      best = cost;
      centroid = c;
    }
  }
  for (const Workspace::Candidate& candidate : workspace.candidates) {
    transform_residual(candidate.centroid);
    const float cost = trellis_->encode(workspace.y.data(), scale_of(candidate.scale_code),
                                        workspace.symbols.data(), workspace.trellis);
    if (cost < best) {
      best = cost;
      centroid = candidate.centroid;
      workspace.best_scale_code = candidate.scale_code;
      workspace.best.swap(workspace.symbols);
    }
  }
  if (best == worst) throw Error("encode: a key's error overflows float32; valid: keys below 1e18");
  if (trellis_) {
    transform_residual(centroid);
    trellis_->refine(workspace.y.data(), scale_of(workspace.best_scale_code), search_.trellis_refinements,
                     workspace.best.data(), workspace.trellis);
  } else if (search_.descent_sweeps > 0) {
    descend(scale_of(workspace.best_scale_code), workspace);
  }

  trellis::BitWriter writer(code);
  planes_.write(workspace.best.data(), writer);
  writer.append(static_cast<std::uint64_t>(centroid), parameters_->centroid_bits);
  writer.append(static_cast<std::uint64_t>(workspace.best_scale_code), parameters_->scale.bits);
  writer.finish();
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
