#pragma once
// What the trellis code of one codec's calibrated keys (quantizers/calibrated_trellis.hpp) needs in device
// memory. Coordinates with bits are "used" and numbered by index, as the trellis visits them.
#include "rotorquant/device/trellis_tables.cuh"
#include "rotorquant/quantizers/calibrated.hpp"

namespace rotorquant::device {

// Steps of the search with feedback whose errors later coordinates take at a time.
inline constexpr int factors_together = 8;
// Where the factors of the block that begins with coordinate `first` of so many used ones begin.
__host__ __device__ inline int factors_before(int first, int used) {
  // The blocks before have used - 8, used - 16, ... rows.
  return first * (used - factors_together) - first * (first - factors_together) / 2;
}

// What a used coordinate is, for loads of 16 bytes.
struct alignas(16) UsedCoordinate {
  int position;    // in storage order
  int width;       // of its symbols
  float weight;    // of its squared error: the metric's diagonal
  float feedback;  // D of trellis_feedback.hpp
  TrellisWidthView levels;
};

struct CalibratedTrellisView {
  int memory, used;
  int candidates, refinements;  // CalibratedSearch; as many of one codec's as there can be
  const float* values;
  const float4* rows;
  const uint2* packed_rows;  // the same in half the bytes (trellis_recursion.cuh), without symbols of 8 bits
  const std::uint8_t* choices;
  int shared_values, shared_rows;     // the first ones, of narrow symbols: copied to shared memory
  const UsedCoordinate* coordinates;  // [used]
  const int* first_values;            // [used] in storage order: TrellisWidthView::first_value
  // L_tj of trellis_feedback.hpp, j in blocks of factors_together, and of each block the rows t behind it:
  // [blocks, rows behind, factors_together].
  const float* factors;
  int factor_count;
  bool shared_factors;           // copied to shared memory
  const float* next_factors;     // [used, factors_together]: [j, t % factors_together] L_tj in j's block
  const float* initial_factors;  // [dim - used, used]
};

class CalibratedTrellisTables {
 public:
  explicit CalibratedTrellisTables(const CalibratedCodec& codec);

  const CalibratedTrellisView& view() const { return view_; }

 private:
  Buffer<float> values_, factors_, next_factors_, initial_factors_;
  Buffer<float4> rows_;
  Buffer<uint2> packed_rows_;
  Buffer<std::uint8_t> choices_;
  Buffer<UsedCoordinate> coordinates_;
  Buffer<int> first_values_;
  CalibratedTrellisView view_{};
};

}  // namespace rotorquant::device
