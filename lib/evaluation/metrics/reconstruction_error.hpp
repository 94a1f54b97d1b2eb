#pragma once
// How far reconstructed vectors are from the originals, without regard to any query.
#include "rotorquant/core/view.hpp"

namespace rotorquant::evaluation {

struct ReconstructionError {
  double mse;   // mean over vectors of ‖x - x̂‖², the D_mse of the quantization literature
  double nmse;  // Σ‖x - x̂‖² / Σ‖x‖²; NaN when every vector is zero
  // Mean of ⟨x,x̂⟩/(‖x‖‖x̂‖) over the vectors x ≠ 0, taken as 0 where x̂ = 0; NaN when every vector is zero.
  double cosine;
};

// x, x_hat [n, d], n >= 1.
ReconstructionError reconstruction_error(HostView<const float> x, HostView<const float> x_hat);

}  // namespace rotorquant::evaluation
