#pragma once
// A quantizer's codes with all their bit planes as one string: planes that do not fill their last byte, as
// those of a few channels, are not padded one by one. Only the end of the vector is.
#include <memory>
#include <vector>

#include "rotorquant/quantizers/quantizer.hpp"

namespace rotorquant {

// One array of bit planes among an inner quantizer's.
struct PlaneArray {
  std::size_t array;         // its place in the inner layout
  std::int64_t coordinates;  // of each plane
  int planes;
};

class PackedCodes final : public Quantizer {
 public:
  // Arrays that `planes` does not list are stored as they are, after the string.
  PackedCodes(std::shared_ptr<const Quantizer> inner, std::vector<PlaneArray> planes);

  const CodeLayout& layout() const override { return layout_; }
  std::int64_t stored_floats() const override { return inner_->stored_floats(); }
  void encode(const Context& context, HostView<const float> x, Codes<Space::cpu> codes) const override;
  void decode(const Context& context, ConstCodes<Space::cpu> codes, HostView<float> x) const override;

 private:
  // copy(inner byte, inner bit in it, bit of the string) for every bit of a vector's planes.
  template <typename Copy>
  void for_each_bit(const Copy& copy) const;

  std::shared_ptr<const Quantizer> inner_;
  std::vector<PlaneArray> planes_;
  std::vector<std::size_t> others_;  // arrays of the inner layout that are stored as they are
  CodeLayout layout_;
};

}  // namespace rotorquant
