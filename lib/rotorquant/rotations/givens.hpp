#pragma once
// Plane rotations of consecutive pairs, known as PlanarQuant: y0 = c x0 - s x1, y1 = s x0 + c x1.
#include <vector>

#include "rotorquant/rotations/block_rotation.hpp"

namespace rotorquant {

struct PlaneRotation {
  float cosine = 1.0F;
  float sine = 0.0F;
};

// planes: one a pair, in order; under Tail::pad an odd dim has one more for its last coordinate.
BlockRotation<2> givens_rotation(std::int64_t dim, Tail tail, const std::vector<PlaneRotation>& planes,
                                 Isa isa = active_isa());
// Angles uniform in [0, 2 pi), one stream a pair.
BlockRotation<2> random_givens_rotation(std::int64_t dim, Tail tail, std::uint64_t seed,
                                        Isa isa = active_isa());

}  // namespace rotorquant
