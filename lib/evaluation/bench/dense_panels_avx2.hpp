#pragma once
// A product with one matrix for many calls, arranged once for AVX2 and with fused multiply-adds.
#include <cstdint>
#include <vector>

#include "rotorquant/core/view.hpp"

namespace rotorquant::evaluation {

class DensePanels {
 public:
  DensePanels() = default;
  // a [k, m].
  explicit DensePanels(HostView<const float> a);

  // y = x a; x [n, k], y [n, m]. Where AVX2 is supported.
  void multiply(HostView<const float> x, HostView<float> y) const;

 private:
  std::vector<float> panels_;  // [ceil(m / 16), k, 16], zeros where there is no column
};

}  // namespace rotorquant::evaluation
