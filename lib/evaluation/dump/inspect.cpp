#include "evaluation/dump/inspect.hpp"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <numeric>

namespace rotorquant::evaluation {
namespace {

constexpr std::size_t top_channel_count = 3;
// Rows whose products are formed at once: the float64 copy stays in the cache.
constexpr std::int64_t rows_per_block = 256;
constexpr std::uint64_t isotropy_seed = 0;

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using FloatMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : 0.5 * (values[half - 1] + values[half]);
}

double effective_rank(const Matrix& covariance) {
  const Eigen::SelfAdjointEigenSolver<Matrix> solver(covariance, Eigen::EigenvaluesOnly);
  // Rounding makes some of the zero eigenvalues negative.
  const Eigen::VectorXd eigenvalues = solver.eigenvalues().cwiseMax(0.0);
  const double total = eigenvalues.sum();
  if (!(total > 0.0)) return 0.0;
  double entropy = 0.0;
  for (const double eigenvalue : eigenvalues) {
    const double share = eigenvalue / total;
    if (share > 0.0) entropy -= share * std::log(share);
  }
  return std::exp(entropy);
}

void measure_channels(const Eigen::VectorXd& peaks, TensorStatistics& statistics) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(peaks.size()));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int64_t a, std::int64_t b) { return peaks[a] > peaks[b]; });
  const double greatest = peaks[order.front()];
  const double middle = median({peaks.begin(), peaks.end()});
  statistics.outlier_ratio = middle > 0.0     ? greatest / middle
                             : greatest > 0.0 ? std::numeric_limits<double>::infinity()
                                              : 1.0;
  order.resize(std::min(order.size(), top_channel_count));
  statistics.top_channels = std::move(order);
}

}  // namespace

TensorStatistics measure_tensor(HostView<const float> rows) {
  const std::int64_t dim = rows.cols;
  const auto count = static_cast<double>(rows.rows);
  Eigen::VectorXd peaks = Eigen::VectorXd::Zero(dim);
  Eigen::VectorXd sum = Eigen::VectorXd::Zero(dim);
  Matrix products = Matrix::Zero(dim, dim);
  std::vector<double> norms;
  double kurtosis_sum = 0.0;
  double energy = 0.0;
  std::int64_t directions = 0;
  // Deviations from the first row: the mean may be far greater than the spread around it.
  const Eigen::VectorXd origin = Eigen::Map<const Eigen::VectorXf>(rows.row(0), dim).cast<double>();
  for (std::int64_t begin = 0; begin < rows.rows; begin += rows_per_block) {
    const std::int64_t size = std::min(rows_per_block, rows.rows - begin);
    const Matrix block = Eigen::Map<const FloatMatrix>(rows.row(begin), size, dim).cast<double>();
    peaks = peaks.cwiseMax(block.cwiseAbs().colwise().maxCoeff().transpose());
    for (std::int64_t r = 0; r < size; ++r) {
      const double squares = block.row(r).squaredNorm();
      norms.push_back(std::sqrt(squares));
      energy += squares;
      if (squares == 0.0) continue;
      kurtosis_sum += static_cast<double>(dim) * (block.row(r) / norms.back()).array().pow(4).sum();
      ++directions;
    }
    const Matrix deviations = block.rowwise() - origin.transpose();
    sum += deviations.colwise().sum().transpose();
    products.noalias() += deviations.transpose() * deviations;
  }
  TensorStatistics statistics;
  const auto [least, greatest] = std::minmax_element(norms.begin(), norms.end());
  statistics.norm_min = *least;
  statistics.norm_max = *greatest;
  statistics.norm_median = median(norms);
  measure_channels(peaks, statistics);
  const Eigen::VectorXd shift = sum / count;
  if (energy > 0.0) statistics.mean_energy_share = (origin + shift).squaredNorm() * count / energy;
  statistics.effective_rank = effective_rank(products / count - shift * shift.transpose());
  if (directions > 0) statistics.kurtosis = kurtosis_sum / static_cast<double>(directions);
  return statistics;
}

Inspection inspect_dump(const Dump& dump, const std::vector<std::int64_t>& layers,
                        const std::vector<std::int64_t>& kv_heads, const Context& context) {
  Inspection inspection;
  inspection.path = dump.path();
  inspection.sha256 = dump.sha256();
  inspection.file_bytes = static_cast<std::int64_t>(std::filesystem::file_size(dump.path()));
  inspection.info = dump.info();
  for (const std::int64_t layer : layers) {
    for (const std::int64_t head : kv_heads) inspection.heads.push_back({.layer = layer, .kv_head = head});
  }
  const DumpInfo& info = dump.info();
  draw_isotropy_control(info.num_tokens, info.head_dim, isotropy_seed, context);
  parallel_for(context, static_cast<std::int64_t>(inspection.heads.size()), [&](std::int64_t i) {
    HeadInspection& head = inspection.heads[static_cast<std::size_t>(i)];
    const std::vector<float> keys = dump.read_key(head.layer, head.kv_head);
    const HostView<const float> key_rows(keys.data(), info.num_tokens, info.head_dim);
    head.key = measure_tensor(key_rows);
    head.isotropy = measure_isotropy(key_rows, isotropy_seed);
    const std::vector<float> values = dump.read_value(head.layer, head.kv_head);
    head.value = measure_tensor({values.data(), info.num_tokens, info.value_dim});
  });
  std::vector<IsotropyReport> reports;
  for (const HeadInspection& head : inspection.heads) reports.push_back(head.isotropy);
  inspection.isotropy = pool_isotropy(reports);
  return inspection;
}

}  // namespace rotorquant::evaluation
