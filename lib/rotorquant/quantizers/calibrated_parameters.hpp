#pragma once
// Parameters of `rotorquant-calibrated` for one KV head at one bit width, and what one sequence adds to them.
//
// A key x before RoPE is coded as  x ~ c_j + h + n F^-1 (sigma * y^),  with
//   c_j    the nearest of C centroids,
//   h      the shift of the sequence (online mean of what the centroids leave),
//   n      a power of 2^(1/steps), the key's own scale,
//   F      a cascade of layers of disjoint 3x3 blocks, F = B_L .. B_1 diag(delta): rotors, or general blocks
//          (rotor * diagonal * rotor), chosen so that F decorrelates keys and the errors that queries see,
//   sigma  the standard deviation of each coordinate of F (x - c_j - h) / n,
//   y^     Lloyd-Max levels of N(0, 1), or values of a trellis code, of mixed widths; they sum to
//          bits * dim + 16 less the bits of j and n: a vector takes exactly the bits of `turboquant` with its
//          16-bit norm.
// Related: KVQuant (arXiv 2401.18079, keys before RoPE), KVTC (2511.01815, PCA and bit allocation), Block-GTQ
// (2606.24033, widths by query x key energy).
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "rotorquant/codes/bit_allocation.hpp"
#include "rotorquant/core/view.hpp"

namespace rotorquant {

// What the 3x3 blocks are made of: proper rotations (4 stored numbers, a unit quaternion), or any invertible
// matrix (9).
enum class BlockKind { rotor, general };

// Disjoint triples of coordinates, each multiplied by its own block; other coordinates pass.
struct TripleLayer {
  std::vector<std::array<std::int32_t, 3>> triples;  // [count]
  std::vector<std::array<float, 9>> blocks;          // [count][3, 3] row-major
};

// Of a block; not finite where it is singular.
std::array<double, 9> inverse_of(const std::array<float, 9>& block);

struct BlockCascade {
  BlockKind kind = BlockKind::general;
  std::vector<float> delta;  // [dim], positive; applied first
  std::vector<TripleLayer> layers;

  std::int64_t dim() const { return static_cast<std::int64_t>(delta.size()); }
  // F and its inverse, [dim, dim] row-major, from the layers in float64.
  std::vector<double> matrix() const;
  std::vector<double> inverse() const;
  std::int64_t stored_floats() const;
};

// n is stored as clip(round(steps_per_octave log2 n) - zero + 2^(bits - 1), 0, 2^bits - 1).
struct ScaleCode {
  int bits = 6;
  int steps_per_octave = 4;
  int zero = 0;  // steps; the middle of the range, near the calibration median
};

struct CalibratedParameters {
  std::int64_t dim = 0;
  int bits = 0;                  // stored bits a vector = bits * dim + 16
  int centroid_bits = 0;         // 0..8
  ScaleCode scale;               // scale.bits + centroid_bits <= 16
  std::vector<float> centroids;  // [C, dim], 1 <= C <= 2^centroid_bits
  BlockCascade transform;
  std::vector<float> deviations;  // sigma [dim], positive
  // [dim, dim], symmetric positive definite: the mean of q q^T over the queries that a key before RoPE meets,
  // each as seen from the key's position. Encoders weigh errors by it; decoders need its diagonal after F,
  // `weights`, alone.
  std::vector<float> query_metric;
  std::vector<float> weights;  // diag(F^-T query_metric F^-1) [dim]: what an error of each coordinate costs

  std::int64_t num_centroids() const { return static_cast<std::int64_t>(centroids.size()) / dim; }
  std::int64_t index_bits() const { return bits * dim + 16 - centroid_bits - scale.bits; }
  // Numbers a decoder keeps: centroids, transform, deviations, weights.
  std::int64_t decoder_floats() const;
  // Throws an Error that names the field if a shape, range or value is not as said above.
  void validate() const;
};

// What is measured on a sequence's own first keys, stored once for each head and sequence, and used for all
// its keys.
struct SequenceAdaptation {
  std::vector<std::uint16_t> shift;  // h [dim] in fp16, or empty: none
  std::vector<std::int8_t>
      scale_steps;  // [dim], or empty: the variance of coordinate i is sigma_i^2 2^(steps / 4)

  std::int64_t bits() const;  // stored
};

// The tokens whose keys the adaptation measures: [first, last) of the sequence, less where it is shorter. The
// first ones are attention sinks, unlike all others.
inline constexpr std::int64_t adaptation_first_token = 4;
inline constexpr std::int64_t adaptation_last_token = 128;

struct AdaptationOptions {
  bool shift = true;
  bool scales = true;
};

// keys [n, dim]: tokens adaptation_first_token .. of one sequence before RoPE; rows beyond the last token are
// ignored, and with no row nothing is adapted (a zero shift is stored).
SequenceAdaptation observe_sequence(const CalibratedParameters& parameters, HostView<const float> keys,
                                    AdaptationOptions options = {});

// Widths [dim] of the coordinates for a sequence: from sigma^2 2^(steps / 4) weights and the distortions of
// the code that has these widths.
std::vector<std::uint8_t> sequence_widths(const CalibratedParameters& parameters,
                                          const SequenceAdaptation& adaptation,
                                          const WidthDistortions& distortions = lloyd_max_distortions());
// sigma 2^(steps / 8) [dim].
std::vector<double> sequence_deviations(const CalibratedParameters& parameters,
                                        const SequenceAdaptation& adaptation);

}  // namespace rotorquant
