#pragma once
// How far vectors are from isotropic: on isotropic data every orthogonal rotation has the same expected
// error, and nothing can be ranked.
//
// The rows are normalised to unit length, u, and three numbers compared with those of as many uniform random
// unit vectors of the same dimension (the control, drawn control_draws times):
//
//   eigenvalue spread   sqrt(d) ‖(1/n) Σ u uᵀ - I/d‖_F: of the second moment's eigenvalues, the standard
//                       deviation over the mean
//   kurtosis            d² mean of u_c⁴ over rows and coordinates; 3d / (d + 2) for uniform vectors
//   mean energy share   ‖(1/n) Σ u‖²
//
// A z-score is the distance from the control's mean in its standard deviations. Spread² and mean energy are
// close to scaled chi-squares, so their z-scores are taken of cube roots, which are close to normal (Wilson
// and Hilferty 1931), and of logarithms for the kurtosis. Data are isotropic when spread and mean energy do
// not exceed the control's (less than random is no direction that a rotation could use) and the kurtosis
// differs neither way, by more than isotropy_z_limit.
#include <cstdint>
#include <vector>

#include "rotorquant/core/parallel.hpp"
#include "rotorquant/core/view.hpp"

namespace rotorquant::evaluation {

inline constexpr int control_draws = 32;
// The control's moments are estimates, so that a z-score follows Student's t with 31 degrees of freedom: it
// exceeds 6.5 with probability 3e-7 and raises a false alarm on less than one in 10000 sets of 100 heads with
// three scores each. The spread of captured keys scores in the hundreds.
inline constexpr double isotropy_z_limit = 6.5;
// Fewer tokens than this, or than dimensions, cannot show anisotropy that would matter.
inline constexpr std::int64_t min_isotropy_tokens = 32;
// Of more tokens, so many are taken at equal distances: ample to tell, and the time stays bounded.
inline constexpr std::int64_t max_isotropy_tokens = 2048;

struct IsotropyReport {
  // False where there are too few tokens to tell: the verdict refuses rankings, and only what is known may do
  // that.
  bool isotropic = false;
  bool enough_tokens = false;
  double eigenvalue_spread_ratio = 0.0;  // data / mean of the matched random controls; 1 = isotropic
  double kurtosis_ratio = 0.0;           // likewise
  double mean_energy_share = 0.0;        // squared norm of the mean unit vector
  double eigenvalue_spread_z = 0.0;      // distance from the controls' mean in their standard deviations
  double kurtosis_z = 0.0;
  double mean_energy_z = 0.0;
};

// keys [T, d]; zero vectors are left out, and where nothing else is left all numbers are NaN. `seed` is the
// control's, which is drawn once for each (seed, number of tokens, d) and remembered. Thread-safe.
IsotropyReport measure_isotropy(HostView<const float> keys, std::uint64_t seed);

// Draws the control of `tokens` vectors, none of them zero, on the context's threads. Without it the first of
// the measurements draws it on its own, while the others wait.
void draw_isotropy_control(std::int64_t tokens, std::int64_t dim, std::uint64_t seed, const Context& context);

// Over heads: ratios and shares averaged, the z-scores of largest magnitude, isotropic only when every head
// is.
IsotropyReport pool_isotropy(const std::vector<IsotropyReport>& heads);

}  // namespace rotorquant::evaluation
