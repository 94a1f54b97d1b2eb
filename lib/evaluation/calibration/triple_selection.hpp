#pragma once
// The greedy start of a cascade: which coordinates each layer mixes, and with which blocks.
//
// A layer takes disjoint triples, the best first, by the drop of J (cascade_objective.hpp) that diagonalising
// both of a triple's 3x3 matrices at once would give: sum log(lambda w + theta) - log det(S_q,g S_k,g + theta
// I). Its blocks are
//   rotor    the eigenvectors of S_k,g;
//   general  U^T S_q,g^(1/2), U the eigenvectors of S_q,g^(1/2) S_k,g S_q,g^(1/2), which reach that drop.
// The statistics then pass through the layer, and the next one is chosen.
#include <vector>

#include "evaluation/calibration/cascade_objective.hpp"

namespace rotorquant::evaluation::calibration {

struct CascadeStart {
  std::vector<std::vector<Triple>> layers;  // at most `layers`; fewer when nothing is left to gain
  Vector parameters;                        // of a CascadeObjective of these layers
};

// key_covariance, query_metric [d, d], symmetric positive definite.
CascadeStart greedy_cascade(BlockKind kind, int layers, const Matrix& key_covariance,
                            const Matrix& query_metric, double theta);

}  // namespace rotorquant::evaluation::calibration
