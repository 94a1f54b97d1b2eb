#pragma once
// What quantizers share that code a vector by itself and without rotating it: loops over vectors.
#include "rotorquant/quantizers/quantizer.hpp"

namespace rotorquant {

class RowCodec : public Quantizer {
 public:
  const CodeLayout& layout() const final { return layout_; }
  std::int64_t stored_floats() const final { return 0; }
  void encode(const Context& context, HostView<const float> x, Codes<Space::cpu> codes) const final;
  void decode(const Context& context, ConstCodes<Space::cpu> codes, HostView<float> x) const final;

 protected:
  CodeLayout layout_;  // filled by derived constructors

 private:
  // x [dim], every value finite -> the codes of one vector; `row` is its row in the whole input, for
  // messages.
  virtual void encode_row(const float* x, std::int64_t row, const Codes<Space::cpu>& code) const = 0;
  // The codes of one vector -> x [dim].
  virtual void decode_row(const ConstCodes<Space::cpu>& code, float* x) const = 0;
};

}  // namespace rotorquant
