#pragma once
// Rotation + scalar codebook: the codec that rotorquant, turboquant and their relatives share, so that a
// table compares rotations and nothing else.
//
// encode: n = ||x||; u = x times the reciprocal of max(n, 1e-8); y = R u; index of each coordinate by the
// codebook; store indices and s. decode: x^ = s R^T c[index]. The stored number s is, by ScaleRule (y^ =
// c[index], <.,.> over coordinates):
//   norm           s = n                        (TurboQuant, RotorQuant)
//   mse            s = n <y, y^> / <y^, y^>     minimises ||x - x^||; EDEN's biased scale
//   eden_unbiased  s = n <y, y> / <y, y^>       unbiased over Haar rotations (Vargaftik et al., "EDEN", ICML
//                  2022)
//   none           x is taken as a unit vector and nothing is stored
#include <memory>

#include "rotorquant/codebooks/lloyd_max.hpp"
#include "rotorquant/quantizers/rotated_codec.hpp"
#include "rotorquant/quantizers/stored_norm.hpp"

namespace rotorquant {

enum class ScaleRule { norm, mse, eden_unbiased, none };

class ScalarCodec final : public RotatedCodec {
 public:
  ScalarCodec(std::shared_ptr<const Rotation> rotation, Codebook codebook,
              NormType norm_type = NormType::fp16, ScaleRule scale_rule = ScaleRule::norm,
              Isa isa = active_isa());

  const Codebook& codebook() const { return tables_.codebook; }
  NormType norm_type() const { return norm_type_; }
  ScaleRule scale_rule() const { return scale_rule_; }

  // Scores by 8-bit integers: the rotated query and the centroids are rounded to 8 bits, so that a score errs
  // by less than 2% of ||q|| ||x||, and their products summed exactly. More than 4 bits: as score().
  void score_int8(const Context& context, HostView<const float> queries, ConstCodes<Space::cpu> codes,
                  HostView<float> scores) const override;

  std::optional<std::string> unsupported_on(Space space) const override;

 private:
  void score_block(const ScoreQueries& queries, ConstCodes<Space::cpu> codes,
                   const ScoreRows& scores) const override;
  void decode_block(ConstCodes<Space::cpu> codes, bool stream, const HostTensor& x) const override;
  const float* load_scales(ConstCodes<Space::cpu> codes) const;
  const float* encode_indices(const ConstHostTensor& x, float* norms, std::uint8_t* planes) const;
  void encode_block(const ConstHostTensor& x, std::int64_t first_row, Codes<Space::cpu> codes) const override;
  // Of the vector with this norm, rotated coordinates y and planes.
  float stored_scale(float norm, const float* y, const std::uint8_t* planes) const;
  // y^: the centroid of each coordinate; s: the stored scale.
  void load_block(ConstCodes<Space::cpu> codes, HostView<float> centroids, float* scales) const override;

  ScalarTables tables_;
  NormType norm_type_;
  ScaleRule scale_rule_;
};

// Index of every coordinate: the number of boundaries strictly below it. values [count] -> indices [count].
void quantize_coordinates(const Codebook& codebook, const float* values, std::int64_t count,
                          std::uint8_t* indices);

}  // namespace rotorquant
