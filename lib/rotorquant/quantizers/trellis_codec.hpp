#pragma once
// Rotation + trellis code (codes/trellis_value_format.hpp): in place of an index of each coordinate by
// itself, a trellis path through all of them, at the b * d + 16 stored bits of a scalar codec with a 16-bit
// norm.
//
// encode: y = R x; the trellis symbols of y and the scale s that minimises ||y - s y^||, coded in 8 bits.
// decode: x^ = R^T s y^.
// A vector whose root mean square lies above the scales' range, 2^(127/16 + offset), is an Error; one below
// it, 2^(-127/16 + offset), decodes to zeros or to the smallest scale.
#include <memory>

#include "rotorquant/codes/trellis_value_format.hpp"
#include "rotorquant/quantizers/rotated_codec.hpp"

namespace rotorquant {

class TrellisCodec final : public RotatedCodec {
 public:
  // 1 <= bits <= 8; memory 3 or 5; the rotation has at most 4096 outputs.
  TrellisCodec(std::shared_ptr<const Rotation> rotation, int bits, int memory,
               const TrellisValueOptions& options = {});

  const TrellisValueFormat& format() const { return format_; }
  std::optional<std::string> unsupported_on(Space space) const override;

 private:
  void encode_block(const ConstHostTensor& x, std::int64_t first_row, Codes<Space::cpu> codes) const override;
  // y^: decoded values, the scale included; s: 1.
  void load_block(ConstCodes<Space::cpu> codes, HostView<float> values, float* scales) const override;

  TrellisValueFormat format_;
};

}  // namespace rotorquant
