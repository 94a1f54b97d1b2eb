#pragma once
// Scores of calibrated keys with trellis codes (quantizers/calibrated.hpp) of one token's queries after RoPE:
//   score = q^T R_p (c + h + n B^T y^),   B = `backward`, R_p the rotation of position p.
//
// A warp takes 32 keys. Their bits are transposed, so that a lane has one bit of all keys: gathering a coordinate's register
// and upper bits, in whatever order mixed widths store them, is then a matter of addresses, and another transposition makes
// them indices. The values, fp16, meet B on tensor cores; centroids are added and pairs turned where the products are; the
// turned keys, fp16 as they would be in an uncompressed cache, meet the queries on tensor cores again. A tile's position
// p = p_0 + j is split: queries are turned back by p_0 and keys turned by j = 0 .. 31, whose sines are a table.
#include <memory>
#include <span>

#include "rotorquant/cache/rope.hpp"
#include "rotorquant/device/device_quantizer.hpp"
#include "rotorquant/device/runtime.cuh"
#include "rotorquant/quantizers/calibrated.hpp"

namespace rotorquant::device {

// Of one head. What a pair of coordinates turns by decides the order of the output coordinates: the pair's first member at f,
// its second at f + dim / 2; those that do not turn are paired as they come.
struct CalibratedHead {
  int used;      // coordinates with bits, the ranks 0 .. used - 1 in index order
  int planes;    // widest symbol
  int start[8];  // first bit of each plane
  int centroid_bit, centroid_bits, scale_bits;
  float scale_zero;  // n = 2^((code + scale_zero) scale_step)
  float scale_step;
  float unit;  // B and centroids are stored divided by it
};
static_assert(sizeof(CalibratedHead) % 16 == 0);

class CalibratedScores {
 public:
  // codecs: of the heads, codec h mod count that of head h; all of one dim, 64 or 128, and one number of bits, with trellis
  // codes of memory 5. Errors: others.
  CalibratedScores(std::span<const std::shared_ptr<const CalibratedCodec>> codecs, const Rope& rope);

  int dim() const { return dim_; }
  int code_bytes() const { return code_bytes_; }

  // queries [heads * queries_per_head, dim], at most eight a head; codes of heads * capacity keys, of which the first `tokens`
  // of each head count, token t at position t. scores [heads * queries_per_head, capacity].
  void score(cudaStream_t stream, const float* queries, std::int64_t heads, int queries_per_head,
             const std::uint8_t* codes, std::int64_t tokens, std::int64_t capacity, float* scores) const;

 private:
  int dim_, code_bytes_, centroids_, value_bytes_;
  int count_;  // codecs
  std::size_t head_bytes_;
  Buffer<std::uint8_t> heads_;  // of each codec: CalibratedHead, places, matrix, centroids, values
  Buffer<int> order_;           // [dim] coordinate at each output place
  Buffer<double> turns_;        // [dim / 2] turns a position
};

}  // namespace rotorquant::device
