#pragma once
// The AVX2 kernels of scalar_scores_avx2.cpp, for the table in scalar_kernels_avx2.cpp.
#include "rotorquant/quantizers/scalar_kernels.hpp"

namespace rotorquant {

void score_avx2(const ScoreQueries& queries, const float* y, const float* scales, std::int64_t rows,
                const ScoreRows& scores);
void score_codes_avx2(const ScalarTables& tables, const ScoreQueries& queries, const std::uint8_t* planes,
                      const float* scales, std::int64_t rows, const ScoreRows& scores);
void score_integers_avx2(const ScalarTables& tables, const IntegerQueries& queries,
                         const std::uint8_t* planes, const float* scales, std::int64_t rows,
                         const ScoreRows& scores);

}  // namespace rotorquant
