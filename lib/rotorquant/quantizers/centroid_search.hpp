#pragma once
// The centroid nearest to each of a few vectors. centroid_search.cpp defines the result; the AVX-512 version
// gives the same: it leaves out the centroids that 8-bit products, whose error is bounded, show to be farther
// than another. Internal to lib/rotorquant/quantizers.
#include <cstdint>
#include <span>
#include <vector>

#include "rotorquant/core/isa.hpp"

namespace rotorquant {

class CentroidSearch {
 public:
  CentroidSearch() = default;
  // centroids [count, dim], shift [dim].
  CentroidSearch(std::span<const float> centroids, std::span<const float> shift);

  // Of vectors x + shift, given x [rows, dim], rows <= 32: the centroid of least squared_distance
  // (level_search.hpp), the first of equals.
  void nearest(Isa isa, const float* x, std::int64_t rows, std::int32_t* found) const;

 private:
  static constexpr std::int64_t together = 32;  // centroids of the arrays below; from `count` on, zeros

  std::int32_t nearest_of(Isa isa, const float* x, std::uint32_t candidates) const;
  std::int32_t nearest_of_all(Isa isa, const float* x) const;
  void candidates_avx512(const float* x, std::int64_t rows, std::uint32_t* found) const;

  std::int64_t dim_ = 0;
  std::int64_t count_ = 0;
  std::vector<float> centroids_;  // [count, dim]
  std::vector<float> shift_;      // [dim]
  float shift_norm_ = 0.0F;       // ||shift||, no less
  // [ceil(dim / 4), together]: 8-bit integers i of centroids, c ~ steps i; a number holds four coordinates' of
  // one, as vector units take them.
  std::vector<std::int32_t> bytes_;
  std::vector<std::int32_t> offset_;  // [together]: 128 times the sum of the integers
  std::vector<float> steps_;          // [together]
  std::vector<float> squares_;        // [together]: ||c||^2
  std::vector<float> norms_;          // [together]: ||c|| and ||steps i||, no less than either
  std::vector<float> errors_;         // [together]: ||c - steps i||, no less
};

}  // namespace rotorquant
