#pragma once
// Where a quantizer stands among those that differ in their rotation alone: one codec, one codebook, from no
// rotation to a dense one.
#include <cstddef>
#include <optional>
#include <string>

namespace rotorquant::evaluation {

struct RotationRung {
  std::size_t order = 0;  // ascending with the coordinates that one coordinate meets
  std::string label;
};

// Of a specification as reports hold it ("turboquant:rotation=hadamard"); none for a quantizer with a codec,
// scale or option of its own, which a ladder must not mix with the others.
std::optional<RotationRung> rotation_rung(const std::string& specification);

}  // namespace rotorquant::evaluation
