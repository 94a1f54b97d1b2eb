#pragma once
// Lloyd-Max scalar quantizers (Lloyd 1957/1982; Max 1960) of one coordinate of a unit vector of R^d after a
// rotation.
//
//   gaussian  N(0, 1/d): the large-d limit, used by the reference implementation and our default;
//   sphere    the exact law p(t) ~ (1 - t^2)^((d-3)/2) on [-1, 1]; at d = 1 the two points -1 and +1.
//
// Levels are solved in float64 until they are stationary and are symmetric about 0; boundaries are float32
// midpoints of the float32 centroids. Index of y = number of boundaries strictly below y, so a tie goes to
// the lower cell.
#include <cstdint>
#include <vector>

namespace rotorquant {

enum class CodebookLaw { gaussian, sphere };

struct Codebook {
  std::vector<float> centroids;   // [2^bits], ascending
  std::vector<float> boundaries;  // [2^bits - 1], ascending

  int bits() const;
  // Any ascending centroids, such as those of another implementation. Their number must be a power of two, 2
  // to 256.
  static Codebook from_centroids(std::vector<float> centroids);
};

// bits in 1..8, dim >= 1.
Codebook lloyd_max_codebook(CodebookLaw law, int bits, std::int64_t dim);

// Levels [2^bits] of N(0, 1), float64.
std::vector<double> lloyd_max_normal_levels(int bits);
// E[(x - level)^2] of N(0, 1) with the Lloyd-Max levels: .36338 .11748 .03454 .009501 at 1..4 bits.
double lloyd_max_normal_distortion(int bits);

// E ||u - decode(encode(u))||^2 for u uniform on the unit sphere of R^dim under `codebook`, integrated from
// the exact law: what every rotation must measure on isotropic data.
double expected_distortion(const Codebook& codebook, std::int64_t dim);

}  // namespace rotorquant
