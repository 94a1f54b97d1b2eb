// The Hadamard transform in AVX2: three levels inside registers, three between eight of them, the others
// between parts of 64 coordinates that wait in the first-level cache.
#include "rotorquant/rotations/rotation_kernels.hpp"

#if defined(__x86_64__)
#include <cmath>

#include "rotorquant/rotations/row_ends_avx2.hpp"

namespace rotorquant {
namespace {

using namespace avx2;

// One level: each lane's partner is `distance` lanes away; the lower of the two takes a + b, the upper a - b.
// Multiplying by +-1 is exact, so that the fused operation rounds like a sum.
template <int distance>
ROTORQUANT_AVX2_INLINE __m256 butterfly(__m256 x) {
  const __m256 partner = distance == 1   ? _mm256_permute_ps(x, 0xB1)
                         : distance == 2 ? _mm256_permute_ps(x, 0x4E)
                                         : _mm256_permute2f128_ps(x, x, 0x01);
  constexpr int upper = distance == 1 ? 0xAA : distance == 2 ? 0xCC : 0xF0;
  const __m256 sign = _mm256_blend_ps(_mm256_set1_ps(1.0F), _mm256_set1_ps(-1.0F), upper);
  return _mm256_fmadd_ps(x, sign, partner);
}

// Levels from stride 8 on of registers of a block.
template <int registers>
ROTORQUANT_AVX2_INLINE void butterflies(__m256 (&v)[registers]) {
#pragma GCC unroll 3
  for (int stride = 1; stride < registers; stride *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < registers; ++i) {
      if ((i & stride) != 0) continue;
      const __m256 a = v[i], b = v[i + stride];
      v[i] = _mm256_add_ps(a, b);
      v[i + stride] = _mm256_sub_ps(a, b);
    }
  }
}

// H of 8 `registers` numbers at x times their signs, unless these come last.
template <int registers, bool transpose>
ROTORQUANT_AVX2_INLINE void transform_part(const float* x, const float* signs, __m256 (&v)[registers]) {
  for (int i = 0; i < registers; ++i) {
    v[i] = _mm256_load_ps(x + i * lanes);
    if (!transpose) v[i] = _mm256_mul_ps(_mm256_loadu_ps(signs + i * lanes), v[i]);
    v[i] = butterfly<4>(butterfly<2>(butterfly<1>(v[i])));
  }
  butterflies(v);
}

// Coordinates [first, first + 8 * registers * parts) of a row in a buffer, a block of the transform.
template <int registers, int parts, bool transpose, typename Sink>
ROTORQUANT_AVX2_INLINE void transform_block(float* row, const float* signs, std::int64_t first,
                                            const typename Sink::Constants& to,
                                            const typename Sink::Row& out) {
  constexpr int size = registers * static_cast<int>(lanes);
  const __m256 scale = _mm256_set1_ps(static_cast<float>(1.0 / std::sqrt(static_cast<double>(size * parts))));
  const auto finish = [&](std::int64_t c, __m256 values) ROTORQUANT_AVX2_LAMBDA {
    const __m256 scaled = _mm256_mul_ps(values, scale);
    return transpose ? _mm256_mul_ps(_mm256_loadu_ps(signs + c), scaled) : scaled;
  };
  const auto put = [&](std::int64_t c, __m256 a, __m256 b) ROTORQUANT_AVX2_LAMBDA {
    out.store(to, c / lanes, finish(c, a), finish(c + lanes, b));
  };
  __m256 v[registers];
  for (int part = 0; part < parts; ++part) {
    const std::int64_t begin = first + part * size;
    transform_part<registers, transpose>(row + begin, signs + begin, v);
    for (int i = 0; i < registers; i += 2) {
      if (parts == 1) {
        put(begin + i * lanes, v[i], v[i + 1]);
      } else {
        _mm256_store_ps(row + begin + i * lanes, v[i]);
        _mm256_store_ps(row + begin + (i + 1) * lanes, v[i + 1]);
      }
    }
  }
  if constexpr (parts > 1) {
    for (std::int64_t c = first; c < first + size; c += 2 * lanes) {
      __m256 low[parts], high[parts];
      for (int part = 0; part < parts; ++part) {
        low[part] = _mm256_load_ps(row + c + part * size);
        high[part] = _mm256_load_ps(row + c + part * size + lanes);
      }
      butterflies(low);
      butterflies(high);
      for (int part = 0; part < parts; ++part) put(c + part * size, low[part], high[part]);
    }
  }
}

template <bool transpose, typename Sink>
ROTORQUANT_AVX2 void hadamard_rows(RowSource& source, const float* signs, const Sink sink) {
  const RowBuffer buffer(source.cols(), source.cols(), false);
  const typename Sink::Constants to = sink.constants();
  avx2::for_each_filled(source, buffer, [&](std::int64_t r) ROTORQUANT_AVX2_LAMBDA {
    float* row = buffer.row(r);
    const typename Sink::Row out = sink.row(r);
    std::int64_t first = 0;
    const auto block = [&]<int registers, int parts>() ROTORQUANT_AVX2_LAMBDA {
      if ((sink.cols & (registers * parts * lanes)) == 0) return;
      transform_block<registers, parts, transpose, Sink>(row, signs, first, to, out);
      first += registers * parts * lanes;
    };
    block.template operator()<8, 4>();
    block.template operator()<8, 2>();
    block.template operator()<8, 1>();
    block.template operator()<4, 1>();
    block.template operator()<2, 1>();
  });
}

}  // namespace

ROTORQUANT_AVX2 void hadamard_transform_avx2(float* data, std::int64_t size) {
  for (std::int64_t i = 0; i < size; i += lanes)
    _mm256_storeu_ps(data + i, butterfly<4>(butterfly<2>(butterfly<1>(_mm256_loadu_ps(data + i)))));
  const __m256 scale = _mm256_set1_ps(static_cast<float>(1.0 / std::sqrt(static_cast<double>(size))));
  for (std::int64_t stride = lanes; stride < size; stride *= 2) {
    for (std::int64_t base = 0; base < size; base += 2 * stride) {
      for (std::int64_t i = base; i < base + stride; i += lanes) {
        const __m256 a = _mm256_loadu_ps(data + i), b = _mm256_loadu_ps(data + i + stride);
        _mm256_storeu_ps(data + i, _mm256_add_ps(a, b));
        _mm256_storeu_ps(data + i + stride, _mm256_sub_ps(a, b));
      }
    }
  }
  for (std::int64_t i = 0; i < size; i += lanes)
    _mm256_storeu_ps(data + i, _mm256_mul_ps(_mm256_loadu_ps(data + i), scale));
}

void hadamard_rows_avx2(const float* signs, bool transpose, HostView<const float> x, HostView<float> y) {
  const PlainSink sink{y.data, y.cols};
  ScaledRows source(x);
  if (transpose) return hadamard_rows<true>(source, signs, sink);
  hadamard_rows<false>(source, signs, sink);
}

void hadamard_rows_avx2(const float* signs, const ConstHostTensor& x, const float* factors,
                        HostView<float> y) {
  ScaledRows source(x, factors);
  hadamard_rows<false>(source, signs, PlainSink{y.data, y.cols});
}

void hadamard_rows_avx2(const float* signs, const ConstHostTensor& x, float* norms,
                        const PlaneCodebook& codebook, std::uint8_t* planes) {
  UnitRows source(x, norms);
  avx2::with_plane_sink(planes, codebook, x.cols,
                        [&](const auto& sink) { hadamard_rows<false>(source, signs, sink); });
}

void hadamard_rows_avx2(const float* signs, HostView<const float> y, const float* factors, bool stream,
                        const HostTensor& x) {
  ScaledRows source(y);
  avx2::with_sink(x, factors, stream, [&](const auto& sink) { hadamard_rows<true>(source, signs, sink); });
}

void hadamard_rows_avx2(const float* signs, const std::uint8_t* planes, const PlaneCodebook& codebook,
                        const float* factors, bool stream, const HostTensor& x) {
  PlaneRows source(planes, codebook, x.rows, x.cols);
  avx2::with_sink(x, factors, stream, [&](const auto& sink) { hadamard_rows<true>(source, signs, sink); });
}

}  // namespace rotorquant
#endif
