// The definition of the Viterbi recursion (trellis_kernels.hpp), in plain C++, and the choice of an instruction set.
#include <algorithm>
#include <cmath>

#include "rotorquant/codes/trellis_kernels.hpp"

namespace rotorquant::trellis {
namespace {

template <int memory>
void forward(const Step* steps, int count, float* cost, std::uint32_t* survivors) {
  constexpr int states = 1 << memory;
  constexpr int words = survivor_words(memory);
  float distortion[2 * states];
  float next[states];
  for (int i = 0; i < count; ++i) {
    const float y = steps[i].y;
    const float weight = steps[i].weight;
    const float* const midpoint = steps[i].row;
    const float* const half = midpoint + 2 * states;
    for (int r = 0; r < 2 * states; ++r) {
      const float error = std::fabs(y - midpoint[r]) - half[r];
      distortion[r] = error * error * weight;
    }
    std::uint32_t* const word = survivors + i * words;
    std::fill_n(word, words, 0U);
    for (int q = 0; q < states; ++q) {
      const float a = cost[q >> 1] + distortion[q];
      const float b = cost[(q >> 1) + states / 2] + distortion[q + states];
      const bool take_b = b < a;
      next[q] = take_b ? b : a;
      word[q / 32] |= static_cast<std::uint32_t>(take_b) << (q % 32);
    }
    const float base = (i + 1) % steps_between_rebasing == 0 ? *std::min_element(next, next + states) : 0.0F;
    for (int q = 0; q < states; ++q) cost[q] = next[q] - base;
  }
}

}  // namespace

ForwardPass forward_pass_serial(int memory) {
  switch (memory) {
    case 3: return forward<3>;
    case 5: return forward<5>;
    default: return forward<8>;
  }
}

ForwardPass forward_pass(int memory, Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) {
    if (const ForwardPass pass = forward_pass_avx512(memory)) return pass;
    return forward_pass_avx2(memory);
  }
  if (isa == Isa::avx2) return forward_pass_avx2(memory);
#endif
  static_cast<void>(isa);
  return forward_pass_serial(memory);
}

}  // namespace rotorquant::trellis
