#pragma once
// Extended RaBitQ (Gao et al., arXiv 2409.09913; its 1-bit form, 2405.12497): a rotation, then the vector of
// a uniform grid that has the greatest cosine with the rotated one, and one factor that makes inner products
// unbiased.
//
// y = R x. Grid of b bits: level k of 0..2^b - 1 stands for (2 k + 1 - 2^b) / ((2^b - 1) sqrt(d)), which is
// symmetric about 0. Among all grid vectors, y^ is the one of greatest <y, y^> / ||y^||: it is reached by
// rounding t |y| for some t > 0, and all t at which a coordinate changes its level are tried (Algorithm 1 of
// the paper, without its bounds on t). Stored: levels and s = ||y||^2 / <y, y^>, so that <q, x> ~ s <R q,
// y^>.
#include "rotorquant/quantizers/registry.hpp"
#include "rotorquant/quantizers/rotated_codec.hpp"
#include "rotorquant/quantizers/stored_norm.hpp"

namespace rotorquant {

class RabitqCodec final : public RotatedCodec {
 public:
  RabitqCodec(std::shared_ptr<const Rotation> rotation, int bits, NormType norm_type);

 private:
  void encode_block(const ConstHostTensor& x, std::int64_t first_row, Codes<Space::cpu> codes) const override;
  void load_block(ConstCodes<Space::cpu> codes, HostView<float> values, float* scales) const override;

  int bits_;
  NormType norm_type_;
  std::vector<float> levels_;  // [2^bits]
};

// Levels of the grid vector of greatest cosine with y [count] -> levels [count], each below 2^bits.
void nearest_grid_direction(const float* y, std::int64_t count, int bits, std::uint8_t* levels);

QuantizerInfo rabitq_quantizer();

}  // namespace rotorquant
