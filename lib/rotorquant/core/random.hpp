#pragma once
// Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy
// as 1, 2, 3", SC 2011), with Box-Muller normals in float64. A number depends on (seed, purpose, index,
// position) alone, so that every platform, thread count and device draws the same.
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace rotorquant {

// What a stream is for; streams of different purposes or indices share no numbers.
enum class Purpose : std::uint32_t {
  rotor = 0,           // index = group
  dense_rotation = 1,  // the matrix Pi
  qjl = 2,             // the sketch S
  hadamard_signs = 3,
  cascade = 4,
  synthetic = 5,
  bootstrap = 6,
  calibration = 7,
  trellis_training = 8,
};

// Ten rounds of Philox4x32 on a 128-bit counter with a 64-bit key.
constexpr std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                                  std::array<std::uint32_t, 2> key) {
  constexpr std::uint64_t multiplier_0 = 0xD2511F53U;
  constexpr std::uint64_t multiplier_1 = 0xCD9E8D57U;
  constexpr std::uint32_t weyl_0 = 0x9E3779B9U;
  constexpr std::uint32_t weyl_1 = 0xBB67AE85U;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product_0 = multiplier_0 * counter[0];
    const std::uint64_t product_1 = multiplier_1 * counter[2];
    counter = {static_cast<std::uint32_t>(product_1 >> 32) ^ counter[1] ^ key[0],
               static_cast<std::uint32_t>(product_1),
               static_cast<std::uint32_t>(product_0 >> 32) ^ counter[3] ^ key[1],
               static_cast<std::uint32_t>(product_0)};
    key = {key[0] + weyl_0, key[1] + weyl_1};
  }
  return counter;
}

// A sequence of numbers of one stream. Key = seed; counter words 2 and 3 = stream = purpose << 32 | index,
// words 0 and 1 count blocks. Each block gives two uniforms of 53 bits.
class RandomStream {
 public:
  constexpr RandomStream(std::uint64_t seed, Purpose purpose, std::uint32_t index = 0)
      : key_{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)},
        index_(index),
        purpose_(static_cast<std::uint32_t>(purpose)) {}

  // Uniform in the open interval (0, 1): (k + 1/2) / 2^53.
  double uniform() {
    if (!has_uniform_) {
      const auto words = philox4x32(
          {static_cast<std::uint32_t>(block_), static_cast<std::uint32_t>(block_ >> 32), index_, purpose_},
          key_);
      ++block_;
      next_uniform_ = to_uniform(words[2], words[3]);
      has_uniform_ = true;
      return to_uniform(words[0], words[1]);
    }
    has_uniform_ = false;
    return next_uniform_;
  }

  // Standard normal, mean 0 and variance 1. Uses two uniforms for two normals.
  double normal() {
    if (has_normal_) {
      has_normal_ = false;
      return next_normal_;
    }
    const double radius = std::sqrt(-2.0 * std::log(uniform()));
    const double angle = 2.0 * std::numbers::pi * uniform();
    next_normal_ = radius * std::sin(angle);
    has_normal_ = true;
    return radius * std::cos(angle);
  }

  // Uniform integer in [0, bound), bound >= 1. The bias, below bound / 2^53, is of no consequence here.
  std::int64_t integer(std::int64_t bound) {
    return static_cast<std::int64_t>(uniform() * static_cast<double>(bound));
  }

 private:
  static constexpr double to_uniform(std::uint32_t high, std::uint32_t low) {
    const std::uint64_t bits = ((static_cast<std::uint64_t>(high) << 32) | low) >> 11;
    return (static_cast<double>(bits) + 0.5) * 0x1p-53;
  }

  std::array<std::uint32_t, 2> key_;
  std::uint32_t index_;
  std::uint32_t purpose_;
  std::uint64_t block_ = 0;
  double next_uniform_ = 0.0;
  double next_normal_ = 0.0;
  bool has_uniform_ = false;
  bool has_normal_ = false;
};

}  // namespace rotorquant
