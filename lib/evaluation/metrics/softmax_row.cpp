#include "evaluation/metrics/softmax_row.hpp"

#include <algorithm>

#include "evaluation/metrics/lanes.hpp"
#include "evaluation/metrics/panel_product.hpp"
#include "rotorquant/core/exponentials.hpp"

namespace rotorquant::evaluation {

double exponentials(const double* products, std::int64_t visible, std::int64_t count, double scale,
                    double shift, double* out) {
  for (std::int64_t j = 0; j < visible; j += lane_count) {
    const Lanes x = load_lanes(products + j) * scale - shift;
    // Only what follows the visible products can be above 0, and that is overwritten below.
    const Lanes power = share_exponential<Lanes, LongLanes>(x);
    store_lanes(out + j, power);
  }
  std::fill(out + visible, out + round_up(count, lane_count), 0.0);

  Lanes sums = {};
  for (std::int64_t j = 0; j < visible; j += lane_count) sums += load_lanes(out + j);
  double total = 0.0;
  for (std::int64_t lane = 0; lane < lane_count; ++lane) total += sums[lane];
  return total;
}

}  // namespace rotorquant::evaluation
