#include "rotorquant/codes/plane_nibbles.hpp"

#include "rotorquant/core/scratch.hpp"

#if defined(__x86_64__)
#include <algorithm>

#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/core/avx512.hpp"
#endif

namespace rotorquant {

#if defined(__x86_64__)
namespace {

constexpr std::int64_t piece = nibble_register_coordinates / 8;  // bytes of a plane to a register

// From the planes' pieces, one to 16 bytes, to nibbles by a transposition of 8 x 8 bits in each 64-bit lane.
// The byte of a plane that holds coordinates [16 k + 8 half, 16 k + 8 half + 8) is byte 2 k + half of its
// piece; nibbles of even and odd k share bytes.
struct NibblePlaces {
  alignas(64) std::uint8_t rows[64];   // of the matrices: which byte of the pieces
  alignas(64) std::uint8_t bytes[64];  // of the result: which byte of the transposed matrices

  constexpr NibblePlaces() : rows(), bytes() {
    for (int pair = 0; pair < 4; ++pair) {
      for (int half = 0; half < 2; ++half) {
        const int matrix = 2 * pair + half;
        for (int odd = 0; odd < 2; ++odd) {
          for (int plane = 0; plane < 4; ++plane) {
            // The last row of a matrix becomes bit 0 of its transpose's bytes.
            rows[8 * matrix + 7 - (4 * odd + plane)] =
                static_cast<std::uint8_t>(piece * plane + 2 * (2 * pair + odd) + half);
          }
        }
        for (int i = 0; i < 8; ++i)
          bytes[4 * (8 * half + i) + pair] = static_cast<std::uint8_t>(8 * matrix + i);
      }
    }
  }
};
constexpr NibblePlaces nibble_places;

template <int bits>
ROTORQUANT_VBMI void nibbles_of(const std::uint8_t* planes, std::int64_t rows, std::int64_t dim,
                                std::uint8_t* nibbles) {
  const __m512i matrix_rows = _mm512_load_si512(nibble_places.rows);
  const __m512i result_bytes = _mm512_load_si512(nibble_places.bytes);
  const __m512i identity = _mm512_set1_epi64(0x8040201008040201);
  const std::int64_t stride = plane_bytes(dim);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t first = 0; first < stride; first += piece) {
      const auto valid = static_cast<__mmask16>((1U << std::min(piece, stride - first)) - 1U);
      __m512i pieces = _mm512_setzero_si512();
      const auto add = [&]<int plane>() ROTORQUANT_VBMI_LAMBDA {
        if constexpr (plane < bits)
          pieces =
              _mm512_inserti32x4(pieces, _mm_maskz_loadu_epi8(valid, planes + plane * stride + first), plane);
      };
      add.template operator()<0>();
      add.template operator()<1>();
      add.template operator()<2>();
      add.template operator()<3>();
      const __m512i matrices = _mm512_permutexvar_epi8(matrix_rows, pieces);
      const __m512i transposed = _mm512_gf2p8affine_epi64_epi8(identity, matrices, 0);
      _mm512_store_si512(nibbles, _mm512_permutexvar_epi8(result_bytes, transposed));
      nibbles += nibble_register_bytes;
    }
    planes += bits * stride;
  }
}

}  // namespace
#endif

bool nibbles_supported(Isa isa) {
  return isa == Isa::avx512 && byte_matrices_supported();
}

const std::uint8_t* nibbles_of_planes(int bits, const std::uint8_t* planes, std::int64_t rows,
                                      std::int64_t dim) {
  static thread_local ScratchFloats scratch;
  auto* nibbles = reinterpret_cast<std::uint8_t*>(scratch.reserve(rows * nibble_bytes(dim) / 4));
#if defined(__x86_64__)
  if (bits == 2) nibbles_of<2>(planes, rows, dim, nibbles);
  if (bits == 3) nibbles_of<3>(planes, rows, dim, nibbles);
  if (bits == 4) nibbles_of<4>(planes, rows, dim, nibbles);
#else
  (void)bits;
  (void)planes;
#endif
  return nibbles;
}

}  // namespace rotorquant
