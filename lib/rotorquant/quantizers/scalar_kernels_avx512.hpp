#pragma once
// The AVX-512 kernels of scalar_scores_avx512.cpp, for the table in scalar_kernels_avx512.cpp.
#include "rotorquant/quantizers/scalar_kernels.hpp"

namespace rotorquant {

void score_avx512(const ScoreQueries& queries, const float* y, const float* scales, std::int64_t rows,
                  const ScoreRows& scores);
void score_codes_avx512(const ScalarTables& tables, const ScoreQueries& queries, const std::uint8_t* planes,
                        const float* scales, std::int64_t rows, const ScoreRows& scores);
void score_integers_avx512(const ScalarTables& tables, const IntegerQueries& queries,
                           const std::uint8_t* planes, const float* scales, std::int64_t rows,
                           const ScoreRows& scores);

}  // namespace rotorquant
