#pragma once
// Registry entries of the quantizers that are a rotation and a scalar codebook or a trellis code (plain), or
// a scalar codebook followed by a residual sketch (two-stage). They differ in the rotation and share every
// other parameter.
#include "rotorquant/quantizers/registry.hpp"

namespace rotorquant {

// rotations: '|'-separated names of rotations/registry.hpp, the default first.
QuantizerInfo plain_quantizer(const std::string& name, const std::string& rotations,
                              const std::string& summary, const std::string& source);
// plain_name: the stage-1 quantizer, which values use too.
QuantizerInfo two_stage_quantizer(const std::string& name, const std::string& plain_name,
                                  const std::string& rotations, const std::string& summary,
                                  const std::string& source);

}  // namespace rotorquant
