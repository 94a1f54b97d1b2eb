#include "rotorquant/core/elements.hpp"

#include <cstring>

#include "rotorquant/core/half.hpp"
#include "rotorquant/core/isa.hpp"

#if defined(__x86_64__)
#include "rotorquant/core/avx2.hpp"
#include "rotorquant/core/avx512.hpp"
#endif

namespace rotorquant {
namespace {

template <typename Convert>
void load_with(const void* from, std::int64_t count, float* to, const Convert& convert) {
  const auto* bytes = static_cast<const std::uint8_t*>(from);
  for (std::int64_t i = 0; i < count; ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, bytes + 2 * i, sizeof bits);
    to[i] = convert(bits);
  }
}

template <typename Convert>
void store_with(const float* from, std::int64_t count, void* to, const Convert& convert) {
  auto* bytes = static_cast<std::uint8_t*>(to);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint16_t bits = convert(from[i]);
    std::memcpy(bytes + 2 * i, &bits, sizeof bits);
  }
}

#if defined(__x86_64__)
ROTORQUANT_AVX512 void load_halves(const void* from, std::int64_t count, float* to) {
  const std::int64_t whole = count / avx512::lanes * avx512::lanes;
  for (std::int64_t i = 0; i < whole; i += avx512::lanes)
    _mm512_storeu_ps(to + i, avx512::load<ElementType::float16>(from, i));
  if (const __mmask16 rest = avx512::lanes_below(count - whole); rest != 0)
    _mm512_mask_storeu_ps(to + whole, rest, avx512::load<ElementType::float16>(from, whole, rest));
}

ROTORQUANT_AVX2 void load_halves_avx2(const void* from, std::int64_t count, float* to) {
  for (std::int64_t i = 0; i < count; i += avx2::lanes)
    avx2::store<ElementType::float32>(avx2::load<ElementType::float16>(from, i, count - i), to, i, count - i);
}
#endif

}  // namespace

void load_elements(ElementType type, const void* from, std::int64_t count, float* to) {
#if defined(__x86_64__)
  if (type == ElementType::float16 && active_isa() == Isa::avx512) return load_halves(from, count, to);
  if (type == ElementType::float16 && active_isa() == Isa::avx2) return load_halves_avx2(from, count, to);
#endif
  switch (type) {
    case ElementType::float16:
      return load_with(from, count, to, half_to_float);
    case ElementType::bfloat16:
      return load_with(from, count, to, bfloat16_to_float);
    case ElementType::float32:
      std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
      return;
  }
}

void store_elements(ElementType type, const float* from, std::int64_t count, void* to) {
  switch (type) {
    case ElementType::float16:
      return store_with(from, count, to, float_to_half);
    case ElementType::bfloat16:
      return store_with(from, count, to, float_to_bfloat16);
    case ElementType::float32:
      std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
      return;
  }
}

}  // namespace rotorquant
