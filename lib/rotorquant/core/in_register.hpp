#pragma once

namespace rotorquant {

// Makes the compiler load x, a vector of 512 bits or less, once and keep it, where it would read it from memory
// again as an operand of every use: a core that starts one such load a cycle, beside the broadcasts of the other
// operand, then waits for loads and not for arithmetic.
template <typename Vector>
inline void in_register([[maybe_unused]] Vector& x) {
#if defined(__AVX512F__)
  asm("" : "+v"(x));
#endif
}

}  // namespace rotorquant
