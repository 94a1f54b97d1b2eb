#pragma once
// A cascade's step (cascade_program.hpp) on sixteen vectors. Internal to lib/rotorquant/quantizers.
#include "rotorquant/core/avx512.hpp"
#include "rotorquant/quantizers/cascade_program.hpp"

namespace rotorquant::avx512 {

class StepFactors {
 public:
  ROTORQUANT_AVX512_INLINE explicit StepFactors(const CascadeStep& step) {
    for (std::size_t i = 0; i < 6; ++i) f_[i] = _mm512_set1_ps(step.factors[i]);
  }
  // Of x, y, z to the columns' lanes from `first` on.
  ROTORQUANT_AVX512_INLINE void apply(__m512 x, __m512 y, __m512 z, float* const (&columns)[3],
                                      std::int64_t first) const {
    _mm512_store_ps(columns[0] + first, _mm512_fmadd_ps(f_[1], z, _mm512_fmadd_ps(f_[0], y, x)));
    _mm512_store_ps(columns[1] + first, _mm512_fmadd_ps(f_[3], z, _mm512_fmadd_ps(f_[2], x, y)));
    _mm512_store_ps(columns[2] + first, _mm512_fmadd_ps(f_[5], y, _mm512_fmadd_ps(f_[4], x, z)));
  }

 private:
  __m512 f_[6];
};

}  // namespace rotorquant::avx512
