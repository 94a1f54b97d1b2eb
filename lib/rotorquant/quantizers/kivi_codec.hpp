#pragma once
// KIVI's codes (Liu et al., arXiv 2402.02750): asymmetric uniform quantization in groups that share a 16-bit
// scale and zero point,
//   zero = min x, scale = (max x - min x) / (2^b - 1), index = round((x - zero) / scale), x^ = index * scale + zero.
// Values are grouped along the channels of one token, keys along `group` tokens of one channel. A code of the
// first kind is of one token [dim]; one of the second is of a block of tokens [group, dim], row-major, which
// the interface of quantizers takes as a single vector of group * dim coordinates. Indices come from the
// stored scale and zero, so that what is decoded is nearest to x.
#include "rotorquant/quantizers/registry.hpp"
#include "rotorquant/quantizers/row_codec.hpp"

namespace rotorquant {

enum class KiviAxis { token, channel };

class KiviCodec final : public RowCodec {
 public:
  // Where `group` does not divide dim, the last group along a token is shorter. group >= 1.
  KiviCodec(KiviAxis axis, std::int64_t dim, std::int64_t group, int bits);

 private:
  void encode_row(const float* x, std::int64_t row, const Codes<Space::cpu>& code) const override;
  void decode_row(const ConstCodes<Space::cpu>& code, float* x) const override;
  // The group of coordinate i of a code's vector.
  std::int64_t group_of(std::int64_t i) const {
    return axis_ == KiviAxis::token ? i / group_ : i % channels_;
  }

  KiviAxis axis_;
  std::int64_t channels_;
  std::int64_t group_;
  std::int64_t num_groups_;  // in one code
  int bits_;
};

// Per token, as KIVI codes values.
QuantizerInfo kivi_quantizer();
inline constexpr char kivi_name[] = "kivi";
// The parameter `group` of a specification.
std::int64_t kivi_group(const ParameterReader& parameters);

}  // namespace rotorquant
