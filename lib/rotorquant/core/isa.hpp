#pragma once
// Which instruction set the hand-written kernels use. Every kernel has a plain C++ version (`serial`) that
// defines its result; the others compute the same bits faster.
#include <string_view>

namespace rotorquant {

enum class Isa {
  serial,  // plain C++
  avx2,    // AVX2 with FMA and F16C
  avx512,  // AVX-512 F, BW, DQ and VL, and what avx2 needs
};

std::string_view isa_name(Isa isa);

// Whether this machine runs code of that instruction set.
bool isa_supported(Isa isa);
// Whether it has AVX-512's products of bytes, which some kernels of Isa::avx512 use where they are there.
bool vnni_supported();
// And permutations of bytes (VBMI) and products of 8 x 8 bit matrices (GFNI).
bool byte_matrices_supported();
// Whether 512-bit instructions take two turns of 256-bit units (AMD's Zen 4). Multiply-adds, which read three
// registers, then wait for stores of 512 bits: kernels full of both are faster with 256.
bool halves_wide_registers();

// The best supported one, or what the environment variable ROTORQUANT_ISA (serial, avx2, avx512) asks for;
// read once. Throws UsageError when it names an unknown or unsupported one.
Isa active_isa();

// The decision itself: `requested` is the variable's value, empty for none.
Isa select_isa(std::string_view requested);

}  // namespace rotorquant
