#pragma once
// Trellis codes: tail-biting, feed-forward trellis-coded quantization of N(0, 1) coordinates with any mix of
// widths.
//
// Coordinates of width w_t >= 1 ("used" ones) are visited in index order; the others have symbol 0 and decode
// to 0. Symbol s_t has w_t bits: its lowest bit l_t and u_t = s_t >> 1. The register before t holds the
// lowest bits of the previous M used coordinates, circularly (the first used coordinate follows the last),
// the nearest one in bit 0:
//   r_t = (register << 1 | l_t) in [0, 2^(M+1)),    value_t = T_{w_t}[u_t * 2^(M+1) + r_t].
// With n < M used coordinates the circle is shorter than the register, which then holds some bits more than
// once: bit i is the lowest bit of used coordinate (t - 1 - i) mod n. Decoding is feed-forward (M + 1 bits
// decide a value) and no state is stored.
//
// The encoder minimises sum_t e_t (y_t - value_t)^2 by the Viterbi algorithm. Which register the first
// coordinate sees is found by a first pass over the coordinates within 20 of the seam, start and end free;
// the second pass is exact given that register. With at most 12 used coordinates all registers are tried, and
// the result is the optimum. Sources: Marcellin & Fischer, "Trellis coded quantization", IEEE Trans. Comm.
// 1990; Tseng et al., "QTIP", arXiv 2406.11235.
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "rotorquant/codes/trellis_kernels.hpp"
#include "rotorquant/codes/trellis_levels.hpp"
#include "rotorquant/core/isa.hpp"

namespace rotorquant {

inline constexpr int max_trellis_dim = 4096;

// Scratch memory of encoders, reused from call to call; one for each thread.
struct TrellisWorkspace {
  std::vector<trellis::Step> steps;
  std::vector<const std::uint8_t*> choices;
  std::vector<std::uint32_t> survivors;
  std::vector<float> normalized;      // [dim]
  std::vector<float> decoded;         // [dim]
  std::vector<std::uint8_t> symbols;  // [dim]
};

// Immutable and safe to share between threads. Cheap to build: the codebook is shared.
class TrellisCode {
 public:
  // widths [dim], 1 <= dim <= 4096, each 0..8, at least one of them not 0 or the code decodes everything to
  // 0.
  TrellisCode(std::span<const std::uint8_t> widths, int memory, Isa isa = active_isa());
  TrellisCode(std::span<const std::uint8_t> widths, std::shared_ptr<const TrellisCodebook> codebook,
              Isa isa = active_isa());

  int dim() const { return static_cast<int>(widths_.size()); }
  int memory() const { return codebook_->memory(); }
  std::span<const std::uint8_t> widths() const { return widths_; }
  const TrellisCodebook& codebook() const { return *codebook_; }

  // y [dim] on the scale of the tables (unit variance), finite. weight [dim] >= 0 multiplies the squared
  // error of each coordinate; nullptr for all 1. symbols [dim], one byte each.
  void encode(const float* y, const float* weight, std::uint8_t* symbols, TrellisWorkspace& workspace) const;

  // y_hat [dim].
  void decode(const std::uint8_t* symbols, float* y_hat) const;

 private:
  int seam_register(TrellisWorkspace& workspace) const;
  int best_register(TrellisWorkspace& workspace) const;
  void pass_from(int start, const trellis::Step* steps, int count, float* cost,
                 std::uint32_t* survivors) const;

  std::vector<std::uint8_t> widths_;
  std::shared_ptr<const TrellisCodebook> codebook_;
  std::vector<std::uint16_t> used_;           // indices of the used coordinates
  std::vector<const TrellisLevels*> levels_;  // of each used coordinate
  std::vector<const float*> values_;          // levels_[i]->values()
  trellis::ForwardPass forward_;
};

}  // namespace rotorquant
