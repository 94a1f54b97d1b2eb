#include "rotorquant/core/scaled_rows.hpp"

#include "rotorquant/core/elements.hpp"
#include "rotorquant/core/scratch.hpp"

#if defined(__x86_64__)
#include "rotorquant/core/avx2.hpp"
#include "rotorquant/core/avx512.hpp"
#endif

namespace rotorquant {
namespace {

#if defined(__x86_64__)
template <ElementType type>
ROTORQUANT_AVX512 void load_rows(const ConstHostTensor& x, const float* factors, float* out) {
  using namespace avx512;
  const std::int64_t whole = x.cols / lanes * lanes;
  const __mmask16 rest = lanes_below(x.cols - whole);
  for (std::int64_t r = 0; r < x.rows; ++r) {
    const __m512 factor = _mm512_set1_ps(factors[r]);
    const std::uint8_t* from = x.row(r);
    float* to = out + r * x.cols;
    for (std::int64_t c = 0; c < whole; c += lanes)
      _mm512_storeu_ps(to + c, _mm512_mul_ps(load<type>(from, c), factor));
    if (rest != 0)
      _mm512_mask_storeu_ps(to + whole, rest, _mm512_mul_ps(load<type>(from, whole, rest), factor));
  }
}

template <ElementType type, bool past_caches>
ROTORQUANT_AVX512 void store_rows(const float* x, const float* factors, const HostTensor& out) {
  using namespace avx512;
  const std::int64_t whole = out.cols / lanes * lanes;
  const __mmask16 rest = lanes_below(out.cols - whole);
  for (std::int64_t r = 0; r < out.rows; ++r) {
    const __m512 factor = _mm512_set1_ps(factors[r]);
    const float* from = x + r * out.cols;
    std::uint8_t* to = out.row(r);
    for (std::int64_t c = 0; c < whole; c += lanes) {
      const __m512 values = _mm512_mul_ps(_mm512_loadu_ps(from + c), factor);
      if constexpr (past_caches) {
        avx512::stream<type>(values, to, c);
      } else {
        store<type>(values, to, c);
      }
    }
    if (rest != 0)
      store<type>(_mm512_mul_ps(_mm512_maskz_loadu_ps(rest, from + whole), factor), to, whole, rest);
  }
}

template <ElementType type>
ROTORQUANT_AVX2 void load_rows_avx2(const ConstHostTensor& x, const float* factors, float* out) {
  using namespace avx2;
  for (std::int64_t r = 0; r < x.rows; ++r) {
    const __m256 factor = _mm256_set1_ps(factors[r]);
    for (std::int64_t c = 0; c < x.cols; c += lanes) {
      const __m256 values = load<type>(x.row(r), c, x.cols - c);
      store<ElementType::float32>(_mm256_mul_ps(values, factor), out + r * x.cols, c, x.cols - c);
    }
  }
}

template <ElementType type>
ROTORQUANT_AVX2 void store_rows_avx2(const float* x, const float* factors, const HostTensor& out) {
  using namespace avx2;
  for (std::int64_t r = 0; r < out.rows; ++r) {
    const __m256 factor = _mm256_set1_ps(factors[r]);
    for (std::int64_t c = 0; c < out.cols; c += lanes) {
      const __m256 values = load<ElementType::float32>(x + r * out.cols, c, out.cols - c);
      store<type>(_mm256_mul_ps(values, factor), out.row(r), c, out.cols - c);
    }
  }
}
#endif

}  // namespace

void load_scaled(Isa isa, const ConstHostTensor& x, const float* factors, float* out) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) {
    return dispatch_type(x.type, [&]<ElementType type>() { load_rows<type>(x, factors, out); });
  }
  if (isa == Isa::avx2) {
    return dispatch_type(x.type, [&]<ElementType type>() { load_rows_avx2<type>(x, factors, out); });
  }
#endif
  (void)isa;
  for (std::int64_t r = 0; r < x.rows; ++r) {
    float* row = out + r * x.cols;
    load_elements(x.type, x.row(r), x.cols, row);
    for (std::int64_t c = 0; c < x.cols; ++c) row[c] *= factors[r];
  }
}

void store_scaled(Isa isa, const float* x, const float* factors, bool stream, const HostTensor& out) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) {
    return dispatch_type(out.type, [&]<ElementType type>() {
      if (stream && streams_whole(out)) return store_rows<type, true>(x, factors, out);
      store_rows<type, false>(x, factors, out);
    });
  }
  if (isa == Isa::avx2) {
    return dispatch_type(out.type, [&]<ElementType type>() { store_rows_avx2<type>(x, factors, out); });
  }
#endif
  (void)isa;
  static thread_local ScratchFloats scratch;
  float* scaled = scratch.reserve(out.cols);
  for (std::int64_t r = 0; r < out.rows; ++r) {
    for (std::int64_t c = 0; c < out.cols; ++c) scaled[c] = x[r * out.cols + c] * factors[r];
    store_elements(out.type, scaled, out.cols, out.row(r));
  }
}

void finish_streams() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

}  // namespace rotorquant
