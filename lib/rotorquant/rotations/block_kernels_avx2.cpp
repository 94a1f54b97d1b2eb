// Products of rows by small blocks, eight coordinates at a time: the other coordinates of their blocks, which
// lie up to three places away, are loads from there, chosen by masks.
#include "rotorquant/rotations/rotation_kernels.hpp"

#if defined(__x86_64__)
#include <algorithm>
#include <utility>

#include "rotorquant/core/avx2.hpp"
#include "rotorquant/core/scratch.hpp"

namespace rotorquant {
namespace {

using avx2::lanes;

// Masks [phase, j, distance + block, lane]: whether the j-th factor (1, 2, ..) of coordinate 8 phase + lane
// lies that far behind it. Phases repeat once blocks and registers end together.
template <int block>
struct FactorMasks {
  static constexpr int phases = block == 3 ? 3 : 1;
  alignas(32) std::int32_t values[phases][block][2 * block][8];
  bool used[phases][block][2 * block];

  constexpr FactorMasks() : values(), used() {
    for (int phase = 0; phase < phases; ++phase) {
      for (int lane = 0; lane < 8; ++lane) {
        const int c = (8 * phase + lane) % block;
        for (int j = 1; j < block; ++j) {
          const int distance = block_factor(c, j) - c + block;
          values[phase][j][distance][lane] = -1;
          used[phase][j][distance] = true;
        }
      }
    }
  }
};

// Coordinates [c, c + 8), c = 8 phase modulo the period, of a row with room for a block on either side.
template <int block, int phase>
ROTORQUANT_AVX2_INLINE __m256 turn(const float* x, const float* coefficients) {
  static constexpr FactorMasks<block> masks;
  const auto coefficient = [&](int j)
                               ROTORQUANT_AVX2_LAMBDA { return _mm256_load_ps(coefficients + 16 * j); };
  __m256 sum = _mm256_mul_ps(coefficient(0), _mm256_loadu_ps(x));
  const auto add = [&]<int j>() ROTORQUANT_AVX2_LAMBDA {
    __m256 factor = _mm256_setzero_ps();
    const auto choose = [&]<int distance>() ROTORQUANT_AVX2_LAMBDA {
      if constexpr (masks.used[phase][j][distance]) {
        const __m256 mask = _mm256_castsi256_ps(
            _mm256_load_si256(reinterpret_cast<const __m256i*>(masks.values[phase][j][distance])));
        factor = _mm256_blendv_ps(factor, _mm256_loadu_ps(x + distance - block), mask);
      }
    };
    [&]<int... distance>(std::integer_sequence<int, distance...>) ROTORQUANT_AVX2_LAMBDA {
      (choose.template operator()<distance>(), ...);
    }
    (std::make_integer_sequence<int, 2 * block>());
    sum = _mm256_add_ps(sum, _mm256_mul_ps(coefficient(j), factor));
  };
  add.template operator()<1>();
  if constexpr (block >= 3) add.template operator()<2>();
  if constexpr (block >= 4) add.template operator()<3>();
  return sum;
}

template <int block>
ROTORQUANT_AVX2 void block_rows(const BlockPlan& plan, HostView<const float> x, HostView<float> y) {
  static thread_local ScratchFloats scratch;
  const std::int64_t padded = (std::max(plan.input_dim, plan.output_dim) + lanes - 1) / lanes * lanes;
  float* row = scratch.reserve(padded + 2 * lanes) + lanes;
  std::fill_n(row - lanes, padded + 2 * lanes, 0.0F);
  for (std::int64_t r = 0; r < x.rows; ++r) {
    std::copy_n(x.row(r), x.cols, row);
    const auto put = [&]<int phase>(std::int64_t c) ROTORQUANT_AVX2_LAMBDA {
      const float* coefficients =
          plan.coefficients[static_cast<std::size_t>(c / 16 * block)].values.data() + c % 16;
      avx2::store<ElementType::float32>(turn<block, phase>(row + c, coefficients), y.row(r), c, y.cols - c);
    };
    for (std::int64_t c = 0; c < y.cols;) {
      put.template operator()<0>(c);
      c += lanes;
      if constexpr (block == 3) {
        if (c < y.cols) put.template operator()<1>(c);
        c += lanes;
        if (c < y.cols) put.template operator()<2>(c);
        c += lanes;
      }
    }
  }
}

}  // namespace

void block_rows_avx2(const BlockPlan& plan, HostView<const float> x, HostView<float> y) {
  if (plan.block == 2) return block_rows<2>(plan, x, y);
  if (plan.block == 3) return block_rows<3>(plan, x, y);
  block_rows<4>(plan, x, y);
}

}  // namespace rotorquant
#endif
