#pragma once
// Scores from trellis codes by integer tensor cores (mma.m16n8k32, int8 in, int32 sums). Levels are bytes as
// they are; queries are rounded to 16 bits of their largest coordinate and come as two bytes, in rows of the
// product of their own, so that the sums of products are exact. Up to eight queries at a time.
//
// Codes of memory 5, 2 to 4 bits and 64 or 128 coordinates. A lane holds a quarter of a key's consecutive
// coordinates and looks two of them up at a time, by seven bits of plane 0 and two of each other plane, in a
// table of byte pairs in shared memory.
#include "rotorquant/device/runtime.cuh"
#include "rotorquant/device/trellis_tables.cuh"

namespace rotorquant::device {

bool has_trellis_scores(const TrellisValueFormat& format);

class TrellisScores {
 public:
  // A format that has_trellis_scores.
  explicit TrellisScores(const TrellisValueFormat& format);

  // rotated_queries [m, dim]; codes of n vectors -> scores [m, n].
  void score(cudaStream_t stream, const float* rotated_queries, std::int64_t m, const std::uint8_t* codes,
             std::int64_t n, float* scores) const;

 private:
  int dim_, bits_;
  Buffer<std::uint8_t> tables_;  // BytePairs<bits>
};

}  // namespace rotorquant::device
