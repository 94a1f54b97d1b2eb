#pragma once
// Scores of rows of any type with AVX2, in the order of ScalarKernels::score, without a copy in float32.
#include "rotorquant/core/element_type.hpp"
#include "rotorquant/core/view.hpp"
#include "rotorquant/quantizers/scalar_kernels.hpp"

namespace rotorquant::evaluation {

// scores(i, t) = <queries(i), x(t)>, queries [m, x.cols].
void score_elements_avx2(HostView<const float> queries, const ConstHostTensor& x, const ScoreRows& scores);

}  // namespace rotorquant::evaluation
