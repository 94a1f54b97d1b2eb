#pragma once
// Matrix types of the calibration: row-major, float64.
#include <Eigen/Core>

namespace rotorquant::evaluation::calibration {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::VectorXd;

}  // namespace rotorquant::evaluation::calibration
