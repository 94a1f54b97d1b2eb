// The encoder of calibrated keys: which centroid, scale code and symbols stand for a key (calibrated.hpp says
// what is minimised).
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>

#include "rotorquant/codes/bit_string.hpp"
#include "rotorquant/core/dense_product.hpp"
#include "rotorquant/core/elements.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/scaled_rows.hpp"
#include "rotorquant/core/scratch.hpp"
#include "rotorquant/quantizers/calibrated.hpp"
#include "rotorquant/quantizers/rotated_codec.hpp"

namespace rotorquant {
namespace {

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
  Workspace(std::size_t dim, std::size_t symbol_bytes, std::size_t num_centroids)
      : y(dim),
        error(dim),
        gradient(dim),
        symbols(symbol_bytes),
        best(symbol_bytes),
        costs(num_centroids * cascade_lanes),
        scale_codes(num_centroids * cascade_lanes),
        ranks(num_centroids * cascade_lanes) {}

  std::vector<float> y;               // [dim] F (x - h - c) / sigma of the centroid at hand
  std::vector<float> error;           // [dim] y - n y^
  std::vector<float> gradient;        // [dim] metric times error
  std::vector<std::uint8_t> symbols;  // [symbol_bytes]
  std::vector<std::uint8_t> best;     // [symbol_bytes]

  std::vector<float> costs;         // [C, cascade_lanes] at the nearest scale code
  std::vector<int> scale_codes;     // [C, cascade_lanes] nearest to the residual's norm
  std::vector<std::int32_t> ranks;  // [C, cascade_lanes] of the costs
  // The best pairs of centroid and scale code of each key, best first: for a trellis up to trellis_candidates
  // by scalar levels, without one the best.
  std::array<std::vector<Candidate>, cascade_lanes> candidates;

  // For trellises alone.
  std::vector<Candidate> finalists;  // [<= trellis_refinements], best first by a first trellis search
  CalibratedTrellis::Workspace trellis;
};

// x(v) - h, valid until the next call.
const float* CalibratedCodec::shifted_row(const ConstHostTensor& x, std::int64_t v) const {
  static thread_local ScratchFloats scratch;
  float* row = scratch.reserve(layout_.dim);
  constexpr float one = 1.0F;
  load_scaled(isa_, x.row_range(v, 1), &one, row);
  for (std::int64_t i = 0; i < layout_.dim; ++i) row[i] -= shift_[static_cast<std::size_t>(i)];
  return row;
}

// Of the key x - h that lies at that centroid.
std::int32_t CalibratedCodec::scale_code_of(const float* shifted, std::int64_t centroid) const {
  const float* place = parameters_->centroids.data() + centroid * layout_.dim;
  return scale_codes_.nearest(squared_distance(isa_, shifted, place, nullptr, layout_.dim));
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

// Refuses those of the keys that have a number that is not finite.
void CalibratedCodec::check_keys(const ConstHostTensor& x, std::int64_t first_row, std::uint32_t keys) const {
  std::vector<float> row(static_cast<std::size_t>(layout_.dim));
  for (; keys != 0; keys &= keys - 1) {
    const int v = std::countr_zero(keys);
    load_elements(x.type, x.row(v), layout_.dim, row.data());
    if (!std::all_of(row.begin(), row.end(), [](float value) { return std::isfinite(value); }))
      refuse_value(first_row + v, row.data(), layout_.dim);
  }
}

void CalibratedCodec::check_columns(const float* columns, std::int64_t first_row, std::int64_t count) const {
  float sums[cascade_lanes] = {};
  for (std::int64_t i = 0; i < layout_.dim; ++i) {
    for (std::int64_t v = 0; v < cascade_lanes; ++v) sums[v] += 0.0F * columns[i * cascade_lanes + v];
  }
  for (std::int64_t v = 0; v < count; ++v) {
    if (std::isfinite(sums[v])) continue;
    throw Error("encode: row " + std::to_string(first_row + v) +
                " overflows float32 once transformed; valid: keys like those "
                "of the calibration");
  }
}

// x -> columns; keys that the first grid does not reach are tried on the next.
CalibratedCodec::GridKeys CalibratedCodec::load(const ConstHostTensor& x, float* columns) const {
  constexpr int few = cascade_lanes / 8;
  if (grids_.empty())
    return {nullptr, nullptr, load_keys(isa_, x, shift_.data(), forward_, nullptr, columns, nullptr)};
  static thread_local ScratchFloats scratch;
  auto* words =
      reinterpret_cast<std::int32_t*>(scratch.reserve(cascade_lanes * grids_.front().keys().words()));
  GridKeys keys;
  for (const CentroidGrid& grid : grids_) {
    keys = {&grid, words, load_keys(isa_, x, shift_.data(), forward_, &grid.keys(), columns, words)};
    if (std::popcount(keys.outside) <= few) break;
  }
  return keys;
}

// The nearest centroid of each key and the scale code nearest to what is left.
void CalibratedCodec::find_nearest(const ConstHostTensor& x, const GridKeys& keys,
                                   BlockFields& fields) const {
  CentroidEstimates estimates;
  std::uint32_t known = 0;
  if (keys.grid != nullptr) {
    keys.grid->estimate(isa_, keys.words, estimates);
    fields.centroids = estimates.nearest;
    constexpr int half = cascade_lanes / 2;
    for (int first = 0; first < cascade_lanes; first += half) {
      known |= scale_codes_.nearest_between(isa_, estimates.least.data() + first,
                                            estimates.most.data() + first, fields.scale_codes.data() + first)
               << first;
    }
    known &= estimates.decided & ~keys.outside;
  }
  const auto all = static_cast<std::uint32_t>((std::uint64_t{1} << x.rows) - 1);
  for (std::uint32_t left = all & ~known; left != 0; left &= left - 1) {
    const int v = std::countr_zero(left);
    const auto lane = static_cast<std::size_t>(v);
    const float* shifted = shifted_row(x, v);
    fields.centroids[lane] = (keys.outside >> v & 1U) == 0
                                 ? centroid_search_.nearest(isa_, shifted, estimates.candidates[lane])
                                 : centroid_search_.nearest(isa_, shifted);
    fields.scale_codes[lane] = scale_code_of(shifted, fields.centroids[lane]);
  }
}

void CalibratedCodec::encode_block(const ConstHostTensor& x, std::int64_t first_row,
                                   std::uint8_t* codes) const {
  static thread_local ScratchFloats column_scratch;
  const std::int64_t dim = layout_.dim;
  float* columns = column_scratch.reserve(cascade_lanes * dim);
  const GridKeys keys = load(x, columns);
  if (keys.outside != 0) check_keys(x, first_row, keys.outside);
  run_steps(isa_, forward_.steps, columns);
  if (keys.outside != 0) check_columns(columns, first_row, x.rows);

  BlockFields fields;
  if (search_.centroid_choices == 0) find_nearest(x, keys, fields);
  if (!trellis_ && search_.centroid_choices == 0 && search_.scale_radius == 0 &&
      search_.descent_sweeps == 0) {
    alignas(64) std::array<float, cascade_lanes> scales;
    for (std::size_t v = 0; v < scales.size(); ++v) scales[v] = scale_of(fields.scale_codes[v]);
    write_codes(isa_, code_, codebooks_, centroid_tables_, columns, scales.data(), fields, x.rows, codes);
    return;
  }
  static thread_local std::vector<float> transformed;
  transformed.resize(static_cast<std::size_t>(x.rows * dim));
  columns_to_rows(columns, {transformed.data(), x.rows, dim});
  Workspace workspace(static_cast<std::size_t>(dim), static_cast<std::size_t>(planes_.symbol_bytes()),
                      static_cast<std::size_t>(parameters_->num_centroids()));
  search_pairs(x, columns, fields, workspace);
  for (std::int64_t v = 0; v < x.rows; ++v) {
    encode_vector(transformed.data() + v * dim, workspace.candidates[static_cast<std::size_t>(v)],
                  codes + v * code_.bytes, workspace);
  }
}

// Costs of every centroid at its nearest scale code; of the best centroids, of the scale codes around it.
void CalibratedCodec::search_pairs(const ConstHostTensor& x, const float* columns, const BlockFields& nearest,
                                   Workspace& workspace) const {
  static thread_local ScratchFloats scratch;
  const std::int64_t dim = layout_.dim;
  const std::int64_t count = x.rows;
  float* residuals = scratch.reserve(dim * cascade_lanes);
  const std::int64_t num_centroids = parameters_->num_centroids();
  const int last_scale_code = (1 << parameters_->scale.bits) - 1;
  alignas(64) std::array<float, cascade_lanes> scales, costs;
  scales.fill(1.0F);
  const auto at = [](std::int64_t centroid, std::int64_t v) {
    return static_cast<std::size_t>(centroid * cascade_lanes + v);
  };

  std::int64_t tried = 1;
  std::vector<std::int32_t> chosen;  // [tried, cascade_lanes]
  if (search_.centroid_choices == 0) {
    chosen.assign(nearest.centroids.begin(), nearest.centroids.end());
    for (std::int64_t v = 0; v < count; ++v) {
      const auto lane = static_cast<std::size_t>(v);
      workspace.scale_codes[at(chosen[lane], v)] = nearest.scale_codes[lane];
    }
  } else {
    for (std::int64_t v = 0; v < count; ++v) {
      const float* shifted = shifted_row(x, v);
      for (std::int64_t c = 0; c < num_centroids; ++c)
        workspace.scale_codes[at(c, v)] = scale_code_of(shifted, c);
    }
    for (std::int64_t c = 0; c < num_centroids; ++c) {
      for (std::int64_t v = 0; v < count; ++v)
        scales[static_cast<std::size_t>(v)] = scale_of(workspace.scale_codes[at(c, v)]);
      level_costs(isa_, level_search_, columns, centroids_forward_.data() + c * dim, scales.data(),
                  workspace.costs.data() + at(c, 0));
    }
    tried = std::min<std::int64_t>(num_centroids, search_.centroid_choices);
    chosen.resize(static_cast<std::size_t>(tried * cascade_lanes));
    // The place of each centroid among all, by cost, then by index.
    std::vector<std::int32_t>& ranks = workspace.ranks;
    std::fill(ranks.begin(), ranks.end(), 0);
    for (std::int64_t c = 1; c < num_centroids; ++c) {
      for (std::int64_t before = 0; before < c; ++before) {
        const float* cost = workspace.costs.data();
        for (std::int64_t v = 0; v < cascade_lanes; ++v) {
          const std::int32_t less = cost[at(c, v)] < cost[at(before, v)] ? 1 : 0;
          ranks[at(before, v)] += less;
          ranks[at(c, v)] += 1 - less;
        }
      }
    }
    for (std::int64_t c = 0; c < num_centroids; ++c) {
      for (std::int64_t v = 0; v < count; ++v) {
        if (ranks[at(c, v)] < tried) chosen[at(ranks[at(c, v)], v)] = static_cast<std::int32_t>(c);
      }
    }
  }

  const int kept = trellis_ ? search_.trellis_candidates : 1;
  for (std::int64_t t = 0; t < tried; ++t) {
    const std::int32_t* centroids = chosen.data() + at(t, 0);
    subtract_offsets(isa_, centroid_tables_, centroids, dim, columns, residuals);
    for (int step = -search_.scale_radius; step <= search_.scale_radius; ++step) {
      const auto code_of = [&](std::int64_t v) { return workspace.scale_codes[at(centroids[v], v)] + step; };
      for (std::int64_t v = 0; v < count; ++v)
        scales[static_cast<std::size_t>(v)] = scale_of(std::clamp(code_of(v), 0, last_scale_code));
      level_costs(isa_, level_search_, residuals, nullptr, scales.data(), costs.data());
      for (std::int64_t v = 0; v < count; ++v) {
        const auto lane = static_cast<std::size_t>(v);
        const bool finite = costs[lane] < std::numeric_limits<float>::infinity();
        if (!finite || code_of(v) < 0 || code_of(v) > last_scale_code) continue;
        offer(workspace.candidates[lane], {costs[lane], static_cast<std::size_t>(centroids[v]), code_of(v)},
              kept);
      }
    }
  }
}

// Coordinate descent of error^T metric error over the indices of workspace.best at a fixed scale.
void CalibratedCodec::descend(float scale, Workspace& workspace) const {
  const std::int64_t used = planes_.count_at_least(1);
  std::vector<float>& error = workspace.error;
  std::vector<float>& gradient = workspace.gradient;
  error = workspace.y;
  for (std::int64_t i = 0; i < used; ++i) {
    error[static_cast<std::size_t>(i)] -= scale * levels_at(i)[workspace.best[static_cast<std::size_t>(i)]];
  }
  dense_product({error.data(), 1, layout_.dim}, {metric_.data(), layout_.dim, layout_.dim},
                {gradient.data(), 1, layout_.dim});
  const DescentProblem problem{level_search_, metric_.data(), scale};
  for (int sweep = 0; sweep < search_.descent_sweeps; ++sweep) {
    if (!descend_once(isa_, problem, gradient.data(), workspace.best.data())) break;
  }
}

// workspace.y = F (x - h - c) / sigma.
void CalibratedCodec::set_residual(const float* transformed, std::size_t centroid,
                                   Workspace& workspace) const {
  const auto n = static_cast<std::size_t>(layout_.dim);
  for (std::size_t i = 0; i < n; ++i) workspace.y[i] = transformed[i] - centroids_forward_[centroid * n + i];
}

// The best of a key's candidates by the trellis, then the best of those by its full search; their symbols are
// in workspace.best.
CalibratedCodec::Candidate CalibratedCodec::search_trellis(const float* transformed,
                                                           const std::vector<Candidate>& candidates,
                                                           Workspace& workspace) const {
  Candidate best;
  const auto keep = [&](const Candidate& candidate) {
    if (!(candidate.cost < best.cost)) return;
    best = candidate;
    workspace.best.swap(workspace.symbols);
  };
  const auto search = [&](const Candidate& candidate) {
    set_residual(transformed, candidate.centroid, workspace);
    return trellis_->encode(workspace.y.data(), scale_of(candidate.scale_code), workspace.symbols.data(),
                            workspace.trellis);
  };
  workspace.finalists.clear();
  for (Candidate candidate : candidates) {
    candidate.cost = search(candidate);
    offer(workspace.finalists, candidate, std::max(1, search_.trellis_refinements));
    keep(candidate);
  }
  if (search_.trellis_refinements == 0) return best;
  for (Candidate candidate : workspace.finalists) {
    search(candidate);
    candidate.cost = trellis_->refine(workspace.y.data(), scale_of(candidate.scale_code),
                                      search_.descent_sweeps, workspace.symbols.data(), workspace.trellis);
    keep(candidate);
  }
  return best;
}

void CalibratedCodec::encode_vector(const float* transformed, const std::vector<Candidate>& candidates,
                                    std::uint8_t* code, Workspace& workspace) const {
  const Candidate best = trellis_             ? search_trellis(transformed, candidates, workspace)
                         : candidates.empty() ? Candidate{}
                                              : candidates.front();
  if (!(best.cost < std::numeric_limits<float>::infinity()))
    throw Error("encode: a key's error overflows float32; valid: keys below 1e18");
  if (!trellis_) {
    const float scale = scale_of(best.scale_code);
    set_residual(transformed, best.centroid, workspace);
    search_levels(isa_, level_search_, workspace.y.data(), scale, workspace.best.data());
    if (search_.descent_sweeps > 0) descend(scale, workspace);
  }
  trellis::BitWriter writer(code);
  planes_.write(workspace.best.data(), writer);
  writer.append(static_cast<std::uint64_t>(best.centroid), parameters_->centroid_bits);
  writer.append(static_cast<std::uint64_t>(best.scale_code), parameters_->scale.bits);
  writer.finish();
}

}  // namespace rotorquant
