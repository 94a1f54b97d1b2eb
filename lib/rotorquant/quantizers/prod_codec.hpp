#pragma once
// Two stages for unbiased inner products: a scalar codec at b-1 bits, then the QJL sketch of its residual.
//
// encode: stage 1 of x gives x^; r = x - x^; store stage 1's code, sign(S r) and ||r||.
// decode: x^ + sqrt(pi/2)/m ||r|| S^T sign(S r), whose inner product with y is the unbiased estimate of <y,
// x>. Source: TurboQuant (arXiv 2504.19874), Algorithm 2; RotorQuant uses rotors in stage 1.
#include <memory>

#include "rotorquant/quantizers/qjl.hpp"
#include "rotorquant/quantizers/scalar_codec.hpp"

namespace rotorquant {

class ProdCodec final : public Quantizer {
 public:
  // The residual norm is stored in the same type as stage 1's norm.
  ProdCodec(std::shared_ptr<const ScalarCodec> stage1, QjlSketch sketch);

  const CodeLayout& layout() const override { return layout_; }
  std::int64_t stored_floats() const override {
    return stage1_->stored_floats() + sketch_.dim() * sketch_.sketch_dim();
  }
  void encode(const Context& context, HostView<const float> x, Codes<Space::cpu> codes) const override;
  void decode(const Context& context, ConstCodes<Space::cpu> codes, HostView<float> x) const override;
  // Stage 1's scores plus the sketch's correction; each query is sketched once.
  void score(const Context& context, HostView<const float> queries, ConstCodes<Space::cpu> codes,
             HostView<float> scores) const override;

  // Stage 1 alone: its codes are the first arrays of this codec's, so that it decodes them as they are.
  const ScalarCodec& stage1() const { return *stage1_; }
  const QjlSketch& sketch() const { return sketch_; }
  // Where the signs and the residual norms are among layout().arrays.
  std::size_t sign_array() const { return sign_array_; }
  std::size_t residual_array() const { return residual_array_; }

  std::optional<std::string> unsupported_on(Space space) const override {
    return stage1_->unsupported_on(space);
  }

 private:
  // sign(S r) times factor * ||r||, [codes.count, sketch_dim].
  void load_signs(ConstCodes<Space::cpu> codes, HostView<float> signs) const;

  std::shared_ptr<const ScalarCodec> stage1_;
  QjlSketch sketch_;
  CodeLayout layout_;
  std::size_t sign_array_;
  std::size_t residual_array_;
};

}  // namespace rotorquant
