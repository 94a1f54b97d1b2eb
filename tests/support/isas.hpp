#pragma once
// The instruction sets this machine can run, to compare kernels with their serial definition.
#include <vector>

#include "rotorquant/core/isa.hpp"

namespace rotorquant::test {

inline std::vector<Isa> supported_isas() {
  std::vector<Isa> isas;
  for (const Isa isa : {Isa::serial, Isa::avx2, Isa::avx512}) {
    if (isa_supported(isa)) isas.push_back(isa);
  }
  return isas;
}

}  // namespace rotorquant::test
