#pragma once
// The trellis code of a calibrated key's coordinates: mixed widths, errors weighed by the query metric. The
// trellis visits coordinates in index order; the arrays here are in storage order (mixed_planes.hpp), as the
// codec's are.
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "rotorquant/codes/bit_allocation.hpp"
#include "rotorquant/codes/trellis.hpp"
#include "rotorquant/codes/trellis_feedback.hpp"

namespace rotorquant {

// Mean squared error of one N(0, 1) coordinate at 0..8 bits under the shipped tables of that memory.
WidthDistortions trellis_distortions(int memory);

class CalibratedTrellis {
 public:
  struct Workspace {
    TrellisWorkspace code;
    TrellisFeedback::Workspace feedback;
    std::vector<float> targets;           // [dim] in index order
    std::vector<float> values;            // [dim] y^
    std::vector<float> error;             // [dim] y - scale y^
    std::vector<float> gradient;          // [dim] metric times error
    std::vector<std::uint8_t> registers;  // [dim] r of each used coordinate
    std::vector<std::uint8_t> trial;      // [dim] symbols in storage order
    std::vector<std::uint8_t> by_index;   // [dim] symbols in index order
    std::vector<float> values_by_index;   // [dim]
  };

  // widths [dim] by coordinate; order [dim]: the coordinate at each storage position; metric [dim, dim],
  // positive definite. memory 3 or 5.
  CalibratedTrellis(std::span<const std::uint8_t> widths, std::span<const std::int32_t> order,
                    std::vector<float> metric, int memory);

  const TrellisCode& code() const { return code_; }
  std::span<const std::size_t> used() const { return used_; }
  std::span<const float> metric() const { return metric_; }  // [dim, dim]
  const TrellisFeedback& feedback() const { return *feedback_; }

  // Symbols [dim] whose values, times `scale`, come near y [dim]: the trellis search minimises the part of
  // (y - scale y^)^T metric (y - scale y^) on the metric's diagonal. Returns the whole.
  float encode(const float* y, float scale, std::uint8_t* symbols, Workspace& workspace) const;
  // Lowers the whole: by a search whose survivors feed their errors forward, from the same register, then by
  // at most `sweeps` sweeps of coordinate descent over the symbols' upper bits. Returns it.
  float refine(const float* y, float scale, int sweeps, std::uint8_t* symbols, Workspace& workspace) const;
  // values [dim] y^.
  void decode(const std::uint8_t* symbols, float* values, Workspace& workspace) const;

 private:
  void to_storage_order(std::uint8_t* symbols, Workspace& workspace) const;
  void find_registers(const std::uint8_t* symbols, Workspace& workspace) const;
  void descend(const float* y, float scale, int sweeps, std::uint8_t* symbols, Workspace& workspace) const;
  float measure(const float* y, float scale, const std::uint8_t* symbols, Workspace& workspace) const;

  TrellisCode code_;
  std::vector<std::int32_t> order_;
  std::vector<std::size_t> used_;  // storage positions of the coordinates with bits, by coordinate
  std::vector<float> metric_;      // [dim, dim]
  std::vector<float> weights_;     // [dim] diagonal of metric_ in index order
  std::optional<TrellisFeedback> feedback_;
};

}  // namespace rotorquant
