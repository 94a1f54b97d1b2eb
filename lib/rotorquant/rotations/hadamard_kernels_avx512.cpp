// The Hadamard transform of up to 256 coordinates in registers.
#include "rotorquant/rotations/rotation_kernels.hpp"

#if defined(__x86_64__)
#include <cmath>

#include "rotorquant/rotations/row_ends_avx512.hpp"

namespace rotorquant {
namespace {

using avx512::lanes;

// One level of the transform inside a register: each lane's partner is `distance` lanes away; the lower of
// the two takes a + b, the upper a - b. Multiplying by +-1 is exact, so that the fused operation rounds like
// a sum.
template <int distance>
ROTORQUANT_AVX512_INLINE __m512 butterfly(__m512 x) {
  __m512 partner;
  if constexpr (distance == 1) partner = _mm512_permute_ps(x, 0xB1);
  if constexpr (distance == 2) partner = _mm512_permute_ps(x, 0x4E);
  if constexpr (distance == 4) partner = _mm512_shuffle_f32x4(x, x, 0xB1);
  if constexpr (distance == 8) partner = _mm512_shuffle_f32x4(x, x, 0x4E);
  constexpr std::uint32_t upper = distance == 1   ? 0xAAAA
                                  : distance == 2 ? 0xCCCC
                                  : distance == 4 ? 0xF0F0
                                                  : 0xFF00;
  const __m512 sign =
      _mm512_mask_blend_ps(static_cast<__mmask16>(upper), _mm512_set1_ps(1.0F), _mm512_set1_ps(-1.0F));
  return _mm512_fmadd_ps(x, sign, partner);
}

// Coordinates [16 first, 16 (first + registers)) of a row.
template <int registers, typename Source, typename Sink>
ROTORQUANT_AVX512_INLINE void hadamard(const typename Source::Row& in, const float* signs, std::int64_t first,
                                       bool transpose, const typename Sink::Constants& to,
                                       const typename Sink::Row& out) {
  __m512 v[registers];
  for (int i = 0; i < registers; ++i) {
    v[i] = in.load(first + i);
    if (!transpose) v[i] = _mm512_mul_ps(_mm512_loadu_ps(signs + (first + i) * lanes), v[i]);
    v[i] = butterfly<8>(butterfly<4>(butterfly<2>(butterfly<1>(v[i]))));
  }
#pragma GCC unroll 4
  for (int stride = 1; stride < registers; stride *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < registers; ++i) {
      if ((i & stride) != 0) continue;
      const __m512 a = v[i];
      const __m512 b = v[i + stride];
      v[i] = _mm512_add_ps(a, b);
      v[i + stride] = _mm512_sub_ps(a, b);
    }
  }
  const __m512 scale =
      _mm512_set1_ps(static_cast<float>(1.0 / std::sqrt(static_cast<double>(registers * lanes))));
  for (int i = 0; i < registers; ++i) {
    v[i] = _mm512_mul_ps(v[i], scale);
    if (transpose) v[i] = _mm512_mul_ps(_mm512_loadu_ps(signs + (first + i) * lanes), v[i]);
    out.store(to, first + i, v[i]);
  }
}

// Rows [source.rows, source.cols], hadamard_in_registers(source.cols).
template <bool transpose, typename Source, typename Sink>
ROTORQUANT_AVX512 void hadamard_rows(const Source source, const float* signs, const Sink sink) {
  const typename Sink::Constants to = sink.constants();
  avx512::prepare(source, 0);
  for (std::int64_t r = 0; r < source.rows; ++r) {
    if (r % avx512::measured_rows == 0) avx512::prepare(source, r + avx512::measured_rows);
    const auto in = source.row(r);
    const auto out = sink.row(r);
    std::int64_t first = 0;
    const auto block = [&]<int registers>() ROTORQUANT_AVX512_LAMBDA {
      if ((source.cols & (registers * lanes)) == 0) return;
      hadamard<registers, Source, Sink>(in, signs, first, transpose, to, out);
      first += registers;
    };
    block.template operator()<16>();
    block.template operator()<8>();
    block.template operator()<4>();
    block.template operator()<2>();
    block.template operator()<1>();
  }
}

}  // namespace

void hadamard_rows_avx512(const float* signs, bool transpose, HostView<const float> x, HostView<float> y) {
  const avx512::PlainSource source{x.data, x.rows, x.cols};
  const avx512::PlainSink sink{y.data, y.cols};
  if (transpose) return hadamard_rows<true>(source, signs, sink);
  hadamard_rows<false>(source, signs, sink);
}

void hadamard_rows_avx512(const float* signs, const ConstHostTensor& x, const float* factors,
                          HostView<float> y) {
  avx512::with_source(x, factors, [&](const auto& source) {
    hadamard_rows<false>(source, signs, avx512::PlainSink{y.data, y.cols});
  });
}

void hadamard_rows_avx512(const float* signs, const ConstHostTensor& x, float* norms,
                          const PlaneCodebook& codebook, std::uint8_t* planes) {
  avx512::with_unit_source(x, x.cols, norms, [&](const auto& source) {
    avx512::with_plane_bits(codebook, [&](auto bits) {
      hadamard_rows<false>(source, signs, avx512::PlaneSink<bits(), std::int64_t>{planes, &codebook, x.cols});
    });
  });
}

void hadamard_rows_avx512(const float* signs, HostView<const float> y, const float* factors, bool stream,
                          const HostTensor& x) {
  avx512::with_sink(x, x.cols, factors, stream, [&](const auto& sink) {
    hadamard_rows<true>(avx512::PlainSource{y.data, y.rows, y.cols}, signs, sink);
  });
}

void hadamard_rows_avx512(const float* signs, const std::uint8_t* nibbles, const PlaneCodebook& codebook,
                          const float* factors, bool stream, const HostTensor& x) {
  avx512::with_sink(x, x.cols, factors, stream, [&](const auto& sink) {
    hadamard_rows<true>(avx512::NibbleSource<std::int64_t>{nibbles, &codebook, x.rows, x.cols}, signs, sink);
  });
}

}  // namespace rotorquant
#endif
