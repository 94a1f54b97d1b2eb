#include "rotorquant/rotations/cascade_shuffle.hpp"

#include <map>
#include <mutex>
#include <numeric>
#include <utility>

namespace rotorquant {
namespace {

// A stride must cut the deal's deviation by this factor to take its place: below, measured distortions do not
// differ.
constexpr double clear_margin = 0.85;
// Strides from 2 up to this one are tried. With dims up to the one below, the search takes milliseconds;
// beyond, the layers overlap so much that the deal is never far from the best.
constexpr std::int64_t longest_stride = 128;
constexpr std::int64_t largest_searched_dim = 320;

std::vector<std::int32_t> stride_shuffle(std::int64_t dim, std::int64_t stride) {
  std::vector<std::int32_t> shuffle;
  for (std::int64_t i = 0; i < dim; ++i) shuffle.push_back(static_cast<std::int32_t>(i * stride % dim));
  return shuffle;
}

std::vector<std::int32_t> search(std::int64_t dim, std::int64_t layers) {
  std::vector<std::int32_t> best = deal_in_three(dim);
  if (dim > largest_searched_dim || layers < 2) return best;
  double to_beat = clear_margin * mixing_deviation(best, layers);
  for (std::int64_t stride = 2; stride < dim && stride <= longest_stride; ++stride) {
    if (std::gcd(stride, dim) != 1) continue;
    std::vector<std::int32_t> candidate = stride_shuffle(dim, stride);
    const double deviation = mixing_deviation(candidate, layers);
    if (deviation < to_beat) {
      to_beat = deviation;
      best = std::move(candidate);
    }
  }
  return best;
}

}  // namespace

std::vector<std::int32_t> deal_in_three(std::int64_t dim) {
  std::vector<std::int32_t> shuffle;
  for (std::int64_t pile = 0; pile < 3; ++pile) {
    for (std::int64_t i = pile; i < dim; i += 3) shuffle.push_back(static_cast<std::int32_t>(i));
  }
  return shuffle;
}

double mixing_deviation(const std::vector<std::int32_t>& shuffle, std::int64_t layers) {
  const std::size_t dim = shuffle.size();
  // energy[i * dim + input]: expected share of the one-hot input's energy at place i of the current order.
  std::vector<double> energy(dim * dim, 0.0);
  for (std::size_t i = 0; i < dim; ++i) energy[i * dim + i] = 1.0;
  std::vector<double> next(dim * dim);
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    std::size_t i = 0;
    for (; i + 3 <= dim; i += 3) {
      double* a = &energy[i * dim];
      double* b = a + dim;
      double* c = b + dim;
      for (std::size_t input = 0; input < dim; ++input) {
        const double shared = 4.0 / 9.0 * (a[input] + b[input] + c[input]);
        a[input] = shared - 3.0 / 9.0 * a[input];
        b[input] = shared - 3.0 / 9.0 * b[input];
        c[input] = shared - 3.0 / 9.0 * c[input];
      }
    }
    if (dim - i == 2) {
      for (std::size_t input = 0; input < dim; ++input) {
        const double half = 0.5 * (energy[i * dim + input] + energy[(i + 1) * dim + input]);
        energy[i * dim + input] = energy[(i + 1) * dim + input] = half;
      }
    }
    if (layer + 1 == layers) break;
    for (std::size_t place = 0; place < dim; ++place) {
      const auto source = static_cast<std::size_t>(shuffle[place]);
      for (std::size_t input = 0; input < dim; ++input)
        next[place * dim + input] = energy[source * dim + input];
    }
    energy.swap(next);
  }
  const double uniform = 1.0 / static_cast<double>(dim);
  double deviation = 0.0;
  for (const double share : energy) deviation += (share - uniform) * (share - uniform);
  return deviation;
}

std::vector<std::int32_t> cascade_shuffle(std::int64_t dim, std::int64_t layers) {
  // Every seed of a sweep asks for the same few shuffles.
  static std::mutex mutex;
  static std::map<std::pair<std::int64_t, std::int64_t>, std::vector<std::int32_t>> known;
  const std::scoped_lock lock(mutex);
  std::vector<std::int32_t>& shuffle = known[{dim, layers}];
  if (shuffle.empty()) shuffle = search(dim, layers);
  return shuffle;
}

}  // namespace rotorquant
