#include <algorithm>

#include "rotorquant/device/calibrated_trellis_tables.cuh"
#include "rotorquant/device/trellis_recursion.cuh"

namespace rotorquant::device {
namespace {

// Symbols up to these widths have their levels in shared memory: the tables of wider ones, which few
// coordinates have, are as large as all of them together.
constexpr int shared_row_width = 4, shared_value_width = 5;
// Those of 128 coordinates: more would leave too little to the warps.
constexpr int most_shared_factors = 7680;

}  // namespace

CalibratedTrellisTables::CalibratedTrellisTables(const CalibratedCodec& codec) {
  const CalibratedTrellis& trellis = *codec.trellis();
  const std::span<const std::size_t> used = trellis.used();
  const std::span<const std::int32_t> order = codec.planes().order();
  const std::size_t dim = order.size();

  TrellisLevelArrays arrays;
  TrellisWidthView levels[max_width + 1];
  for (int width = 1; width <= max_width; ++width) {
    if (std::find(codec.widths().begin(), codec.widths().end(), width) == codec.widths().end()) continue;
    levels[width] = arrays.append(trellis.code().codebook().levels(width));
    if (width <= shared_value_width) view_.shared_values = static_cast<int>(arrays.values.size());
    if (width <= shared_row_width) view_.shared_rows = static_cast<int>(arrays.rows.size());
  }

  std::vector<UsedCoordinate> coordinates;
  std::vector<int> first_values(used.size());
  for (std::size_t t = 0; t < used.size(); ++t) {
    const std::size_t position = used[t];
    const int width = codec.widths()[static_cast<std::size_t>(order[position])];
    coordinates.push_back({static_cast<int>(position), width, trellis.metric()[position * (dim + 1)],
                           trellis.feedback().weights()[t], levels[width]});
    first_values[position] = levels[width].first_value;
  }
  const std::size_t count = used.size();
  std::vector<float> factors, next_factors(count * factors_together);
  for (std::size_t first = 0; first < count; first += factors_together) {
    const std::size_t end = std::min(first + factors_together, count);
    for (std::size_t t = first; t < count; ++t) {
      for (std::size_t j = first; j < end; ++j) {
        const float factor = trellis.feedback().factors()[j * count + t];
        if (t < end) {
          next_factors[j * factors_together + t - first] = factor;
        } else {
          factors.push_back(factor);
        }
      }
    }
  }
  if (codec.planes().count_at_least(max_width) == 0) {
    std::vector<uint2> packed;
    for (const float4& row : arrays.rows) packed.push_back(trellis_search::pack_row(row));
    packed_rows_ = Buffer<uint2>(packed);
  }
  values_ = Buffer<float>(arrays.values);
  rows_ = Buffer<float4>(arrays.rows);
  choices_ = Buffer<std::uint8_t>(arrays.choices);
  coordinates_ = Buffer<UsedCoordinate>(coordinates);
  first_values_ = Buffer<int>(first_values);
  factors_ = Buffer<float>(factors);
  next_factors_ = Buffer<float>(next_factors);
  const std::span<const float> initial = trellis.feedback().initial_factors();
  initial_factors_ = Buffer<float>(std::vector<float>(initial.begin(), initial.end()));
  view_.memory = trellis.code().memory();
  view_.used = static_cast<int>(used.size());
  // No more than the pairs that there are.
  const CalibratedSearch& search = codec.search();
  const int centroids =
      std::min(std::max(search.centroid_choices, 1), static_cast<int>(codec.parameters().num_centroids()));
  view_.candidates = std::min(search.trellis_candidates, centroids * (2 * search.scale_radius + 1));
  view_.refinements = std::min(search.trellis_refinements, view_.candidates);
  view_.values = values_.data();
  view_.rows = rows_.data();
  view_.packed_rows = packed_rows_.data();
  view_.choices = choices_.data();
  view_.coordinates = coordinates_.data();
  view_.first_values = first_values_.data();
  view_.factors = factors_.data();
  view_.next_factors = next_factors_.data();
  view_.factor_count = static_cast<int>(factors.size());
  view_.shared_factors = view_.factor_count <= most_shared_factors;
  view_.initial_factors = initial_factors_.data();
}

}  // namespace rotorquant::device
