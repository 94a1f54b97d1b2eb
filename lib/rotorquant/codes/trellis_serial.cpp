// The definition of the Viterbi recursion (trellis_kernels.hpp), in plain C++, and the choice of an
// instruction set.
#include <algorithm>
#include <cmath>

#include "rotorquant/codes/trellis_kernels.hpp"

namespace rotorquant::trellis {
namespace {

template <int memory>
void forward(const Step* steps, int count, float* cost, std::uint32_t* survivors) {
  constexpr int states = 1 << memory;
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
    std::uint32_t survivor = 0;
    for (int q = 0; q < states; ++q) {
      const float a = cost[q >> 1] + distortion[q];
      const float b = cost[(q >> 1) + states / 2] + distortion[q + states];
      const bool take_b = b < a;
      next[q] = take_b ? b : a;
      survivor |= static_cast<std::uint32_t>(take_b) << q;
    }
    survivors[i] = survivor;
    const float base = (i + 1) % steps_between_rebasing == 0 ? *std::min_element(next, next + states) : 0.0F;
    for (int q = 0; q < states; ++q) cost[q] = next[q] - base;
  }
}

}  // namespace

ForwardPass forward_pass_serial(int memory) {
  return memory == 3 ? forward<3> : forward<5>;
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

PlaneDecoder plane_decoder(int memory, int width, Isa isa) {
#if defined(__x86_64__)
  if (width <= max_decoder_width) {
    if (isa == Isa::avx512) return plane_decoder_avx512(memory, width);
    if (isa == Isa::avx2) return plane_decoder_avx2(memory, width);
  }
#endif
  static_cast<void>(memory);
  static_cast<void>(width);
  static_cast<void>(isa);
  return nullptr;
}

}  // namespace rotorquant::trellis
