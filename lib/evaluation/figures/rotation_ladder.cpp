#include "evaluation/figures/rotation_ladder.hpp"

#include <array>
#include <string_view>
#include <utility>

namespace rotorquant::evaluation {
namespace {

struct Rung {
  std::string_view specification;
  std::string_view label;
};

constexpr std::array rungs{
    Rung{"identity", "none"},
    Rung{"planarquant", "planes"},
    Rung{"rotorquant", "rotors"},
    Rung{"isoquant:mode=fast", "quaternions, fast"},
    Rung{"isoquant", "quaternions"},
    Rung{"rotorquant:rotation=cascade", "cascade"},
    Rung{"turboquant:rotation=hadamard", "Hadamard"},
    Rung{"turboquant", "dense"},
};

}  // namespace

std::optional<RotationRung> rotation_rung(const std::string& specification) {
  for (std::size_t i = 0; i < rungs.size(); ++i) {
    if (rungs[i].specification == specification) return RotationRung{i, std::string(rungs[i].label)};
  }
  return std::nullopt;
}

}  // namespace rotorquant::evaluation
