#pragma once
// Scores from bit planes by integer tensor cores: up to eight queries at a time, queries and centroids as
// 16-bit integers, exact sums.
#include "rotorquant/device/plane_fragments.cuh"
#include "rotorquant/device/runtime.cuh"
#include "rotorquant/quantizers/scalar_codec.hpp"

namespace rotorquant::device {

// Boundaries and centroids of both signs alike, bit for bit.
bool is_symmetric(const Codebook& codebook);

// Scalar codes of 1 to 4 bits and 64 or 128 coordinates, a codebook symmetric about 0, norms in fp16.
bool has_plane_scores(const ScalarCodec& codec);

// Their unit is chosen so that all centroids lie near fp16 numbers: the largest relative error falls from
// 2^-12 to less than a fifth of that at 2 and 3 bits.
HalfCentroids half_centroids(const Codebook& codebook);

// Centroids as integers n, (n + 1/2) unit, by byte: n = 256 high + low, low in 0 .. 255; entries 0..3 and
// 4..7. Up to 3 bits: all; 4 bits: the positive ones of a codebook symmetric about 0; the negative ones have
// all bits of n inverted.
struct IntegerCentroids {
  std::uint32_t low_bytes[2];
  std::uint32_t high_bytes[2];
  float unit;
};
IntegerCentroids integer_centroids(const Codebook& codebook);

// rotated_queries [m, dim]; codes of n vectors -> scores [m, n].
void score_planes(cudaStream_t stream, int dim, int bits, const IntegerCentroids& centroids,
                  const float* rotated_queries, std::int64_t m, const std::uint8_t* codes,
                  const std::uint8_t* norms, std::int64_t n, float* scores);

// A sketch's signs (quantizers/qjl.hpp) as codes of one bit with these centroids: factor and -factor.
inline HalfCentroids sign_centroids(float factor) {
  constexpr std::uint32_t high_bytes = 0xBC3C;  // of fp16 1 and -1
  return {{0U, 0U}, {high_bytes, 0U}, factor};
}

// Sketches of 64 or 128 signs, norms in fp16.
bool has_sign_scores(std::int64_t sketch_dim, NormType norm_type);
// scores(i, t) += factor norms(t) <sketched_queries(i), signs(t)>; sketched_queries [m, sketch_dim], scores
// [m, n].
void add_sign_scores(cudaStream_t stream, int sketch_dim, float factor, const float* sketched_queries,
                     std::int64_t m, const std::uint8_t* signs, const std::uint8_t* norms, std::int64_t n,
                     float* scores);

}  // namespace rotorquant::device
