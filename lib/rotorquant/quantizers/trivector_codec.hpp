#pragma once
// Compatibility: the form of RotorQuant in which the Python reference stores a trivector beside the vector of
// every group of three coordinates.
//
//   encode: n = max(||x||, 1e-8); u = x / n padded with zeros to groups of three; v = R u reverse(R) and the
//   trivector t that the reference's multiplication table leaves (clifford/reference_table.hpp); indices of v
//   (b bits each) and of t (max(b-1, 1) bits), and n.
//   decode: that of RotorQuant. The trivector has no effect on it: it is stored bits without use, which is
//   why the layout counts them.
//
// Codebooks of the reference: N(0, 1/d) for v and N(0, 2/d) for t, Lloyd-Max both.
#include <array>
#include <memory>
#include <vector>

#include "rotorquant/clifford/rotor.hpp"
#include "rotorquant/quantizers/registry.hpp"
#include "rotorquant/quantizers/scalar_codec.hpp"

namespace rotorquant {

class TrivectorCodec final : public Quantizer {
 public:
  // rotors: one a group, ceil(dim / 3). Norms are stored as the reference does, NormType::reference.
  TrivectorCodec(std::int64_t dim, const std::vector<Rotor>& rotors, Codebook vector_codebook,
                 Codebook trivector_codebook);

  const CodeLayout& layout() const override { return layout_; }
  std::int64_t stored_floats() const override { return vector_codec_->stored_floats(); }
  void encode(const Context& context, HostView<const float> x, Codes<Space::cpu> codes) const override;
  void decode(const Context& context, ConstCodes<Space::cpu> codes, HostView<float> x) const override {
    vector_codec_->decode(context, codes, x);
  }
  void score(const Context& context, HostView<const float> queries, ConstCodes<Space::cpu> codes,
             HostView<float> scores) const override {
    vector_codec_->score(context, queries, codes, scores);
  }
  void weighted_sum(const Context& context, HostView<const float> weights, ConstCodes<Space::cpu> codes,
                    HostView<float> sums) const override {
    vector_codec_->weighted_sum(context, weights, codes, sums);
  }

  // x [n, dim] -> the trivector of every group of x / max(||x||, 1e-8), [n, groups].
  void trivectors(HostView<const float> x, HostView<float> t) const;
  std::int64_t groups() const { return static_cast<std::int64_t>(weights_.size()); }
  // Its codes are the first arrays of this codec's.
  const ScalarCodec& vector_codec() const { return *vector_codec_; }

 private:
  std::shared_ptr<const ScalarCodec> vector_codec_;
  Codebook trivector_codebook_;
  std::vector<std::array<float, 3>> weights_;  // [groups]: t = <weights, u of the group>
  CodeLayout layout_;
  std::size_t trivector_array_;  // index of the trivectors' indices among layout_.arrays
};

// The registry entry `rotorquant-trivector`.
QuantizerInfo trivector_quantizer();

}  // namespace rotorquant
