#include "evaluation/statistics/isotropy.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <span>
#include <tuple>

#include "evaluation/statistics/summary.hpp"
#include "rotorquant/core/random.hpp"

namespace rotorquant::evaluation {
namespace {

// Bootstrap intervals use the first streams of their purpose.
constexpr std::uint32_t first_control_stream = 1U << 16;

// Unit vectors [rows, dim].
struct UnitRows {
  std::int64_t rows = 0;
  std::int64_t dim = 0;
  std::vector<double> data;

  // Appends x / ‖x‖, unless x is zero.
  void append(std::span<const double> x) {
    double energy = 0.0;
    for (const double value : x) energy += value * value;
    if (energy == 0.0) return;
    const double norm = std::sqrt(energy);
    const std::size_t begin = data.size();
    data.resize(begin + x.size());
    for (std::size_t i = 0; i < x.size(); ++i) data[begin + i] = x[i] / norm;
    ++rows;
  }
};

struct Moments {
  double eigenvalue_spread = 0.0;
  double kurtosis = 0.0;
  double mean_energy = 0.0;

  // On scales where the control is close to normal.
  double spread_score() const { return std::cbrt(eigenvalue_spread * eigenvalue_spread); }
  double kurtosis_score() const { return std::log(kurtosis); }
  double mean_energy_score() const { return std::cbrt(mean_energy); }
};

// Σ u uᵀ, its lower triangle [dim, dim]. Rows are taken four at a time, as the triangle is larger than the
// registers.
std::vector<double> second_moment(const UnitRows& u) {
  const auto dim = static_cast<std::size_t>(u.dim);
  std::vector<double> second(dim * dim, 0.0);
  const std::vector<double> none(dim, 0.0);
  for (std::int64_t r = 0; r < u.rows; r += 4) {
    const auto row = [&](std::int64_t offset) {
      return r + offset < u.rows ? u.data.data() + (r + offset) * u.dim : none.data();
    };
    const double* a = row(0);
    const double* b = row(1);
    const double* c = row(2);
    const double* d = row(3);
    for (std::size_t i = 0; i < dim; ++i) {
      double* out = second.data() + i * dim;
      for (std::size_t j = 0; j <= i; ++j)
        out[j] += (a[i] * a[j] + b[i] * b[j]) + (c[i] * c[j] + d[i] * d[j]);
    }
  }
  return second;
}

Moments moments_of(const UnitRows& u) {
  const auto dim = static_cast<std::size_t>(u.dim);
  std::vector<double> sum(dim, 0.0);
  double fourth = 0.0;
  for (std::int64_t r = 0; r < u.rows; ++r) {
    const double* row = u.data.data() + r * u.dim;
    for (std::size_t i = 0; i < dim; ++i) {
      sum[i] += row[i];
      fourth += (row[i] * row[i]) * (row[i] * row[i]);
    }
  }
  const std::vector<double> second = second_moment(u);
  const auto n = static_cast<double>(u.rows);
  const auto d = static_cast<double>(u.dim);
  double spread = 0.0;
  double energy = 0.0;
  for (std::size_t i = 0; i < dim; ++i) {
    energy += (sum[i] / n) * (sum[i] / n);
    const double excess = second[i * dim + i] / n - 1.0 / d;
    spread += excess * excess;
    for (std::size_t j = 0; j < i; ++j) spread += 2.0 * (second[i * dim + j] / n) * (second[i * dim + j] / n);
  }
  return {.eigenvalue_spread = std::sqrt(d * spread), .kurtosis = d * fourth / n, .mean_energy = energy};
}

struct Control {
  Moments mean;                   // of the moments themselves
  std::array<double, 3> centers;  // means and standard deviations of the scores
  std::array<double, 3> deviations;
};

Moments draw_moments(std::uint64_t seed, std::int64_t draw, std::int64_t rows, std::int64_t dim) {
  RandomStream random(seed, Purpose::bootstrap, first_control_stream + static_cast<std::uint32_t>(draw));
  std::vector<double> x(static_cast<std::size_t>(dim));
  UnitRows u{.rows = 0, .dim = dim, .data = {}};
  u.data.reserve(static_cast<std::size_t>(rows * dim));
  for (std::int64_t r = 0; r < rows; ++r) {
    for (double& value : x) value = random.normal();
    u.append(x);
  }
  return moments_of(u);
}

Control draw_control(std::uint64_t seed, std::int64_t rows, std::int64_t dim, const Context& context) {
  std::array<Moments, control_draws> draws;
  parallel_for(context, control_draws, [&](std::int64_t draw) {
    draws[static_cast<std::size_t>(draw)] = draw_moments(seed, draw, rows, dim);
  });
  std::array<std::vector<double>, 3> scores;
  Control control{};
  for (const Moments& moments : draws) {
    control.mean.eigenvalue_spread += moments.eigenvalue_spread / control_draws;
    control.mean.kurtosis += moments.kurtosis / control_draws;
    control.mean.mean_energy += moments.mean_energy / control_draws;
    scores[0].push_back(moments.spread_score());
    scores[1].push_back(moments.kurtosis_score());
    scores[2].push_back(moments.mean_energy_score());
  }
  for (std::size_t i = 0; i < scores.size(); ++i) {
    control.centers[i] = mean(scores[i]);
    control.deviations[i] = standard_deviation(scores[i]);
  }
  return control;
}

// Heads of a dump share their shape and so their control; a control is six numbers, so that all are kept.
const Control& control_for(std::uint64_t seed, std::int64_t rows, std::int64_t dim,
                           const Context& context = {}) {
  static std::mutex mutex;
  static std::map<std::tuple<std::uint64_t, std::int64_t, std::int64_t>, Control> controls;
  const std::scoped_lock lock(mutex);
  const auto key = std::make_tuple(seed, rows, dim);
  const auto known = controls.find(key);
  return known != controls.end()
             ? known->second
             : controls.emplace(key, draw_control(seed, rows, dim, context)).first->second;
}

// What differs by less than this is equal but for rounding: in one dimension all unit vectors have one
// kurtosis.
constexpr double rounding = 1e-12;

double z_score(double value, double center, double deviation) {
  const double distance = value - center;
  if (std::abs(distance) <= rounding) return 0.0;
  return distance / std::max(deviation, rounding);
}

double ratio(double value, double reference) {
  return value == reference ? 1.0 : value / reference;
}

double larger_magnitude(double a, double b) {
  return std::abs(b) > std::abs(a) ? b : a;
}

}  // namespace

void draw_isotropy_control(std::int64_t tokens, std::int64_t dim, std::uint64_t seed,
                           const Context& context) {
  control_for(seed, std::min(tokens, max_isotropy_tokens), dim, context);
}

IsotropyReport measure_isotropy(HostView<const float> keys, std::uint64_t seed) {
  UnitRows u{.rows = 0, .dim = keys.cols, .data = {}};
  const std::int64_t taken = std::min(keys.rows, max_isotropy_tokens);
  std::vector<double> x(static_cast<std::size_t>(keys.cols));
  for (std::int64_t i = 0; i < taken; ++i) {
    const float* row = keys.row(i * keys.rows / taken);
    std::copy_n(row, keys.cols, x.begin());
    u.append(x);
  }
  IsotropyReport report;
  if (u.rows == 0) {
    constexpr double undefined = std::numeric_limits<double>::quiet_NaN();
    report.eigenvalue_spread_ratio = report.kurtosis_ratio = report.mean_energy_share = undefined;
    report.eigenvalue_spread_z = report.kurtosis_z = report.mean_energy_z = undefined;
    return report;
  }
  const Moments moments = moments_of(u);
  const Control& control = control_for(seed, u.rows, u.dim);
  report.eigenvalue_spread_ratio = ratio(moments.eigenvalue_spread, control.mean.eigenvalue_spread);
  report.kurtosis_ratio = ratio(moments.kurtosis, control.mean.kurtosis);
  report.mean_energy_share = moments.mean_energy;
  report.eigenvalue_spread_z = z_score(moments.spread_score(), control.centers[0], control.deviations[0]);
  report.kurtosis_z = z_score(moments.kurtosis_score(), control.centers[1], control.deviations[1]);
  report.mean_energy_z = z_score(moments.mean_energy_score(), control.centers[2], control.deviations[2]);
  report.enough_tokens = u.rows >= std::max(min_isotropy_tokens, u.dim);
  report.isotropic = report.enough_tokens && report.eigenvalue_spread_z <= isotropy_z_limit &&
                     std::abs(report.kurtosis_z) <= isotropy_z_limit &&
                     report.mean_energy_z <= isotropy_z_limit;
  return report;
}

IsotropyReport pool_isotropy(const std::vector<IsotropyReport>& heads) {
  IsotropyReport pooled;
  pooled.isotropic = pooled.enough_tokens = !heads.empty();
  std::vector<double> spreads;
  std::vector<double> kurtoses;
  std::vector<double> shares;
  for (const IsotropyReport& head : heads) {
    pooled.isotropic = pooled.isotropic && head.isotropic;
    pooled.enough_tokens = pooled.enough_tokens && head.enough_tokens;
    if (std::isnan(head.kurtosis_ratio)) continue;  // nothing but zero vectors
    spreads.push_back(head.eigenvalue_spread_ratio);
    kurtoses.push_back(head.kurtosis_ratio);
    shares.push_back(head.mean_energy_share);
    pooled.eigenvalue_spread_z = larger_magnitude(pooled.eigenvalue_spread_z, head.eigenvalue_spread_z);
    pooled.kurtosis_z = larger_magnitude(pooled.kurtosis_z, head.kurtosis_z);
    pooled.mean_energy_z = larger_magnitude(pooled.mean_energy_z, head.mean_energy_z);
  }
  pooled.eigenvalue_spread_ratio = mean(spreads);
  pooled.kurtosis_ratio = mean(kurtoses);
  pooled.mean_energy_share = mean(shares);
  return pooled;
}

}  // namespace rotorquant::evaluation
