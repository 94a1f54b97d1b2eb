#include "evaluation/calibration/measure_statistics.hpp"

#include <Eigen/Eigenvalues>
#include <algorithm>

#include "evaluation/calibration/matrix.hpp"

namespace rotorquant::evaluation::calibration {
namespace {

std::vector<float> to_floats(const Vector& vector) {
  std::vector<float> values;
  for (const double value : vector) values.push_back(static_cast<float>(value));
  return values;
}

}  // namespace

KeyStatistics measure_statistics(const CalibrationInput& input, const CalibrationModel& model,
                                 std::int64_t sinks) {
  const auto dim = static_cast<Eigen::Index>(model.head_dim);
  Vector mean = Vector::Zero(dim), query_energy = Vector::Zero(dim);
  Matrix second = Matrix::Zero(dim, dim);
  std::int64_t keys = 0, queries = 0;
  for (const CalibrationSequence& sequence : input.sequences) {
    std::vector<float> unturned(sequence.keys.data, sequence.keys.data + sequence.keys.size());
    const HostView<float> view{unturned.data(), sequence.keys.rows, sequence.keys.cols};
    RopeTable(model.rope, sequence.positions).remove(view);
    for (std::int64_t t = sinks; t < sequence.keys.rows; ++t, ++keys) {
      const Vector key = Eigen::Map<const Eigen::VectorXf>(view.row(t), dim).cast<double>();
      mean += key;
      second += key * key.transpose();
    }
    std::vector<std::int64_t> positions;
    for (const std::int64_t token : sequence.query_tokens)
      positions.push_back(sequence.positions[static_cast<std::size_t>(token)]);
    const RopeTable turned(model.rope, positions);
    for (const HostView<const float>& head : sequence.queries) {
      std::vector<float> rows(head.data, head.data + head.size());
      const HostView<float> query_view{rows.data(), head.rows, head.cols};
      turned.remove(query_view);
      for (std::int64_t q = 0; q < head.rows; ++q, ++queries) {
        query_energy += Eigen::Map<const Eigen::VectorXf>(query_view.row(q), dim).cast<double>().cwiseAbs2();
      }
    }
  }
  mean /= static_cast<double>(keys);
  second /= static_cast<double>(keys);
  KeyStatistics statistics;
  statistics.mean = to_floats(mean);
  statistics.key_energy = to_floats(second.diagonal());
  statistics.query_energy = to_floats(query_energy / static_cast<double>(queries));
  const Eigen::SelfAdjointEigenSolver<Matrix> solver(second - mean * mean.transpose());
  for (Eigen::Index i = dim; i-- > 0;) {  // the solver's order is ascending
    statistics.variances.push_back(static_cast<float>(std::max(solver.eigenvalues()(i), 0.0)));
    Vector component = solver.eigenvectors().col(i);
    Eigen::Index largest = 0;
    component.cwiseAbs().maxCoeff(&largest);
    if (component(largest) < 0.0) component = -component;
    for (const double value : component) statistics.components.push_back(static_cast<float>(value));
  }
  statistics.validate();
  return statistics;
}

}  // namespace rotorquant::evaluation::calibration
