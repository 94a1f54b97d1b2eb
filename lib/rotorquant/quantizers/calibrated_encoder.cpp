// The encoder of calibrated keys: which centroid, scale code and symbols stand for a key (calibrated.hpp says
// what is minimised).
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "rotorquant/codes/bit_string.hpp"
#include "rotorquant/core/dense_product.hpp"
#include "rotorquant/core/elements.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/scratch.hpp"
#include "rotorquant/quantizers/calibrated.hpp"
#include "rotorquant/quantizers/rotated_codec.hpp"

namespace rotorquant {
namespace {

// A residual shorter than this counts as this long: the scale code needs a logarithm.
constexpr double scale_floor = 1e-4;

// Keeps the `most` cheapest, in ascending order; of equal ones those that came first.
template <typename Candidate>
void offer(std::vector<Candidate>& kept, const Candidate& candidate, int most) {
  const auto place = std::upper_bound(kept.begin(), kept.end(), candidate,
                                      [](const Candidate& a, const Candidate& b) { return a.cost < b.cost; });
  kept.insert(place, candidate);
  if (kept.size() > static_cast<std::size_t>(most)) kept.pop_back();
}

}  // namespace

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
    float cost;
    std::size_t centroid;
    int scale_code;
  };
  std::vector<Candidate> candidates;  // [<= trellis_candidates], best first by scalar levels
  std::vector<Candidate> finalists;   // [<= trellis_refinements], best first by a first trellis search

  CalibratedTrellis::Workspace trellis;
};

std::int32_t CalibratedCodec::nearest_scale_code(double energy) const {
  const double least = static_cast<double>(layout_.dim) * scale_floor * scale_floor;
  return static_cast<std::int32_t>(
      std::upper_bound(energies_.begin(), energies_.end(), std::max(energy, least)) - energies_.begin());
}

// Of the key x - h that lies at that centroid.
std::int32_t CalibratedCodec::scale_code_of(const float* shifted, std::int64_t centroid) const {
  const float* place = parameters_->centroids.data() + centroid * layout_.dim;
  return nearest_scale_code(squared_distance(isa_, shifted, place, nullptr, layout_.dim));
}

void CalibratedCodec::encode(const Context& context, HostView<const float> x, Codes<Space::cpu> codes) const {
  encode_tensor(context, {x.data, ElementType::float32, x.rows, x.cols}, codes);
}

void CalibratedCodec::encode_tensor(const Context& context, const ConstHostTensor& x,
                                    Codes<Space::cpu> codes) const {
  parallel_chunks(context, x.rows, vectors_per_block, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; r += cascade_lanes) {
      const std::int64_t count = std::min(cascade_lanes, end - r);
      encode_block(x.row_range(r, count), r, codes.arrays[0] + r * code_.bytes);
    }
  });
}

void CalibratedCodec::encode_block(const ConstHostTensor& x, std::int64_t first_row,
                                   std::uint8_t* codes) const {
  static thread_local ScratchFloats row_scratch, column_scratch;
  const std::int64_t dim = layout_.dim;
  float* shifted = row_scratch.reserve(cascade_lanes * dim);
  float* columns = column_scratch.reserve(cascade_lanes * dim);
  if (!load_shifted(isa_, x, shift_.data(), shifted)) {
    std::vector<float> row(static_cast<std::size_t>(dim));
    for (std::int64_t v = 0; v < x.rows; ++v) {
      load_elements(x.type, x.row(v), dim, row.data());
      if (!std::all_of(row.begin(), row.end(), [](float value) { return std::isfinite(value); }))
        refuse_value(first_row + v, row.data(), dim);
    }
  }
  rows_to_columns(isa_, forward_, shifted, x.rows, columns);
  run_steps(isa_, forward_.steps, columns);
  float sums[cascade_lanes] = {};
  for (std::int64_t i = 0; i < dim; ++i) {
    for (std::int64_t v = 0; v < cascade_lanes; ++v) sums[v] += 0.0F * columns[i * cascade_lanes + v];
  }
  for (std::int64_t v = 0; v < x.rows; ++v) {
    if (std::isfinite(sums[v])) continue;
    throw Error("encode: row " + std::to_string(first_row + v) +
                " overflows float32 once transformed; valid: keys like those "
                "of the calibration");
  }
  if (!trellis_ && search_.centroid_choices == 0 && search_.scale_radius == 0 &&
      search_.descent_sweeps == 0) {
    BlockFields fields;
    alignas(64) std::array<float, cascade_lanes> scales{};
    centroid_search_.nearest(isa_, shifted, x.rows, fields.centroids.data());
    for (std::int64_t v = 0; v < x.rows; ++v) {
      const auto lane = static_cast<std::size_t>(v);
      fields.scale_codes[lane] = scale_code_of(shifted + v * dim, fields.centroids[lane]);
      scales[lane] = scale_of(fields.scale_codes[lane]);
    }
    write_codes(isa_, code_, codebooks_, centroid_tables_, columns, scales.data(), fields, x.rows, codes);
    return;
  }
  static thread_local std::vector<float> transformed;
  transformed.resize(static_cast<std::size_t>(x.rows * dim));
  columns_to_rows(columns, {transformed.data(), x.rows, dim});
  Workspace workspace(static_cast<std::size_t>(dim), static_cast<std::size_t>(planes_.symbol_bytes()),
                      static_cast<std::size_t>(parameters_->num_centroids()));
  for (std::int64_t v = 0; v < x.rows; ++v) {
    encode_vector(transformed.data() + v * dim, shifted + v * dim, codes + v * code_.bytes, workspace);
  }
}

// Quantizes y at each scale of [first_code, last_code]; what is below `best` in the diagonal metric becomes
// the workspace's best. Returns the least cost, `best` included.
float CalibratedCodec::search_scales(const float* y, int first_code, int last_code, float best,
                                     Workspace& workspace) const {
  const auto n = static_cast<std::size_t>(layout_.dim);
  const std::int64_t used = planes_.count_at_least(1);
  for (int code = first_code; code <= last_code; ++code) {
    const float cost = search_levels(isa_, level_search_, y, scale_of(code), workspace.symbols.data());
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
      const NormalLevels& levels = levels_at(static_cast<std::int64_t>(i));
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

// workspace.y = F (x - h - c) / sigma.
void CalibratedCodec::set_residual(const float* transformed, std::size_t centroid,
                                   Workspace& workspace) const {
  const auto n = static_cast<std::size_t>(layout_.dim);
  for (std::size_t i = 0; i < n; ++i) workspace.y[i] = transformed[i] - centroids_forward_[centroid * n + i];
}

// Tries the candidates with the trellis, then the best of them with its full search. Leaves symbols and scale
// code of the best in the workspace; returns its cost.
float CalibratedCodec::search_trellis(const float* transformed, std::size_t& centroid,
                                      Workspace& workspace) const {
  float best = std::numeric_limits<float>::infinity();
  const auto keep = [&](const Workspace::Candidate& candidate, float cost) {
    if (!(cost < best)) return;
    best = cost;
    centroid = candidate.centroid;
    workspace.best_scale_code = candidate.scale_code;
    workspace.best.swap(workspace.symbols);
  };
  const auto search = [&](const Workspace::Candidate& candidate) {
    set_residual(transformed, candidate.centroid, workspace);
    return trellis_->encode(workspace.y.data(), scale_of(candidate.scale_code), workspace.symbols.data(),
                            workspace.trellis);
  };
  workspace.finalists.clear();
  for (Workspace::Candidate candidate : workspace.candidates) {
    candidate.cost = search(candidate);
    offer(workspace.finalists, candidate, std::max(1, search_.trellis_refinements));
    keep(candidate, candidate.cost);
  }
  if (search_.trellis_refinements == 0) return best;
  for (const Workspace::Candidate& candidate : workspace.finalists) {
    search(candidate);
    keep(candidate, trellis_->refine(workspace.y.data(), scale_of(candidate.scale_code),
                                     search_.descent_sweeps, workspace.symbols.data(), workspace.trellis));
  }
  return best;
}

void CalibratedCodec::encode_vector(const float* transformed, const float* shifted, std::uint8_t* code,
                                    Workspace& workspace) const {
  const auto num_centroids = static_cast<std::size_t>(parameters_->num_centroids());
  const int last_scale_code = (1 << parameters_->scale.bits) - 1;
  constexpr float worst = std::numeric_limits<float>::infinity();

  const auto find_scale_code = [&](std::size_t centroid) {
    workspace.scale_codes[centroid] = scale_code_of(shifted, static_cast<std::int64_t>(centroid));
  };

  std::size_t tried = 1;
  if (search_.centroid_choices == 0) {
    // Nearest to the key itself, without the shift.
    std::int32_t nearest = 0;
    centroid_search_.nearest(isa_, shifted, 1, &nearest);
    workspace.order[0] = nearest;
    find_scale_code(static_cast<std::size_t>(nearest));
  } else {
    for (std::size_t c = 0; c < num_centroids; ++c) {
      find_scale_code(c);
      set_residual(transformed, c, workspace);
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
    set_residual(transformed, c, workspace);
    const int first = std::max(0, workspace.scale_codes[c] - search_.scale_radius);
    const int last = std::min(last_scale_code, workspace.scale_codes[c] + search_.scale_radius);
    if (trellis_) {
      for (int scale_code = first; scale_code <= last; ++scale_code) {
        const float cost = search_scales(workspace.y.data(), scale_code, scale_code, worst, workspace);
        offer(workspace.candidates, {cost, c, scale_code}, search_.trellis_candidates);
      }
      continue;
    }
    const float cost = search_scales(workspace.y.data(), first, last, best, workspace);
    if (cost < best) {
      best = cost;
      centroid = c;
    }
  }
  if (trellis_) best = search_trellis(transformed, centroid, workspace);
  if (best == worst) throw Error("encode: a key's error overflows float32; valid: keys below 1e18");
  if (!trellis_ && search_.descent_sweeps > 0) {
    descend(scale_of(workspace.best_scale_code), workspace);
  }

  trellis::BitWriter writer(code);
  planes_.write(workspace.best.data(), writer);
  writer.append(static_cast<std::uint64_t>(centroid), parameters_->centroid_bits);
  writer.append(static_cast<std::uint64_t>(workspace.best_scale_code), parameters_->scale.bits);
  writer.finish();
}

}  // namespace rotorquant
