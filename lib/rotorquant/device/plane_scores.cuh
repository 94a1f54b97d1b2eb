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

// What two-stage codes (quantizers/prod_codec.hpp) add to the scores of their first stage, factor norms(t)
// <queries(i), signs(t)>: queries S q [m, dim], as many signs as coordinates, norms of residuals.
struct SketchScores {
  const float* queries = nullptr;
  float factor = 0.0F;
  const std::uint8_t* signs = nullptr;
  const __half* norms = nullptr;
};

// rotated_queries [m, dim]; codes of n vectors -> scores [m, n]. sketch: without signs for codes of one
// stage. Codes are fetched while the kernel before this one on the stream still runs, if that allows it
// (griddepcontrol.launch_dependents): it may make the queries, but must not write codes.
void score_planes(cudaStream_t stream, int dim, int bits, const IntegerCentroids& centroids,
                  const float* rotated_queries, std::int64_t m, const std::uint8_t* codes,
                  const std::uint8_t* norms, std::int64_t n, const SketchScores& sketch, float* scores);

// A sketch's signs (quantizers/qjl.hpp) as codes of one bit with these centroids: factor and -factor.
inline HalfCentroids sign_centroids(float factor) {
  constexpr std::uint32_t high_bytes = 0xBC3C;  // of fp16 1 and -1
  return {{0U, 0U}, {high_bytes, 0U}, factor};
}

}  // namespace rotorquant::device
