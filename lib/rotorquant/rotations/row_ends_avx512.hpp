#pragma once
// Where AVX-512 kernels that turn rows take their coordinates from and put them, 16 at a time: plain float32
// rows, rows of any type that are scaled on the way, or bit planes. Kernels are templates over these two
// ends, so that a vector goes from its 16-bit numbers to its code, or back, without leaving the registers.
// Internal to lib/rotorquant/rotations.
//
// An Extent is a number of coordinates: std::int64_t, or a std::integral_constant where the kernel is one of
// that dimension alone, all of whose places and shifts are constants.
//
// What is the same for all rows of a sink lies in its Constants, which callers keep in registers. Chunk k of
// a row is its coordinates [16 k, 16 k + 16); loads with a mask give zeros outside it and read nothing there,
// stores with a mask write the coordinates inside it.
#include <type_traits>

#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/codes/plane_nibbles.hpp"
#include "rotorquant/codes/plane_registers_avx512.hpp"
#include "rotorquant/core/avx512.hpp"
#include "rotorquant/core/scaled_rows.hpp"
#include "rotorquant/core/scratch.hpp"
#include "rotorquant/core/unit_rows_avx512.hpp"
#include "rotorquant/core/view.hpp"
#include "rotorquant/rotations/rotation.hpp"

namespace rotorquant::avx512 {

// Into the second-level cache: requests of the first one hold its few buffers while memory answers.
ROTORQUANT_AVX512_INLINE void prefetch(const std::uint8_t* place) {
  _mm_prefetch(reinterpret_cast<const char*>(place), _MM_HINT_T1);
}

struct PlainSource {
  struct Row {
    const float* data;

    ROTORQUANT_AVX512_INLINE __m512 load(std::int64_t chunk) const {
      return _mm512_loadu_ps(data + chunk * lanes);
    }
    ROTORQUANT_AVX512_INLINE __m512 load(std::int64_t chunk, __mmask16 mask) const {
      return _mm512_maskz_loadu_ps(mask, data + chunk * lanes);
    }
  };
  ROTORQUANT_AVX512_INLINE Row row(std::int64_t r) const { return {data + r * cols}; }

  const float* data;
  std::int64_t rows, cols;
};

// Asks for the rows that callers take next as it goes: they measure all of those before they turn them, so
// that the processor's own prefetching finds too little to go by.
template <ElementType type>
struct ScaledSource {
  struct Row {
    const std::uint8_t* data;
    const std::uint8_t* next;
    __m512 factor;

    ROTORQUANT_AVX512_INLINE __m512 load(std::int64_t chunk) const {
      prefetch(next + chunk * lanes * element_bytes(type));
      return _mm512_mul_ps(avx512::load<type>(data, chunk * lanes), factor);
    }
    ROTORQUANT_AVX512_INLINE __m512 load(std::int64_t chunk, __mmask16 mask) const {
      return _mm512_mul_ps(avx512::load<type>(data, chunk * lanes, mask), factor);
    }
  };
  ROTORQUANT_AVX512_INLINE Row row(std::int64_t r) const {
    const std::uint8_t* row = data + r * cols * element_bytes(type);
    return {row, row + usual_rows_at_once * cols * element_bytes(type), _mm512_set1_ps(factors[r])};
  }

  const std::uint8_t* data;
  const float* factors;  // [rows]
  std::int64_t rows, cols;
};

// Rows times their unit factors. prepare() measures four of them, while those before are still being turned,
// and keeps their numbers in float32 until they are turned themselves.
template <ElementType type, typename Extent>
struct UnitSource {
  static constexpr std::int64_t kept_rows = 2 * measured_rows;

  struct Row {
    const float* data;
    __m512 factor;

    ROTORQUANT_AVX512_INLINE __m512 load(std::int64_t chunk) const {
      return _mm512_mul_ps(_mm512_load_ps(data + chunk * lanes), factor);
    }
    ROTORQUANT_AVX512_INLINE __m512 load(std::int64_t chunk, __mmask16) const { return load(chunk); }
  };
  ROTORQUANT_AVX512_INLINE Row row(std::int64_t r) const {
    return {numbers + r % kept_rows * stride(cols), _mm512_set1_ps(factors[r])};
  }

  // Rows [first, first + measured_rows), `first` a multiple of that; nothing where x has no such rows. Asks
  // for those that come some time after them: a vector's turn takes so long that the processor's own
  // prefetching lags behind.
  ROTORQUANT_AVX512_INLINE void prepare(std::int64_t first) const {
    if (first >= rows) return;
    const ConstHostTensor x{data, type, rows, cols};
    float* kept = numbers + first % kept_rows * stride(cols);
    const std::uint8_t* next = x.row(first + usual_rows_at_once);
    measure_rows<type>(x, first, norms, factors,
                       [&](int i, std::int64_t chunk, __m512 values) ROTORQUANT_AVX512_LAMBDA {
                         _mm512_store_ps(kept + i * stride(cols) + chunk * lanes, values);
                         const std::int64_t place = chunk * lanes * element_bytes(type);
                         if (place % 64 == 0) prefetch(next + i * cols * element_bytes(type) + place);
                       });
  }

  // Floats of a row, whole registers.
  static constexpr std::int64_t stride(std::int64_t cols) { return (cols + lanes - 1) / lanes * lanes; }

  const std::uint8_t* data;
  std::int64_t rows;
  Extent cols;
  float* norms;    // [rows], found
  float* factors;  // [rows], found
  float* numbers;  // [kept_rows, stride(cols)]
};

// For kernels: what a source has to do before rows from `first` on are asked for.
template <typename Source>
ROTORQUANT_AVX512_INLINE void prepare(const Source& source, std::int64_t first) {
  if constexpr (requires { source.prepare(first); }) source.prepare(first);
}

// The centroids of indices in nibbles.
template <typename Extent>
struct NibbleSource {
  struct Row {
    const std::uint8_t* nibbles;
    __m512 centroids;

    ROTORQUANT_AVX512_INLINE __m512 load(std::int64_t chunk) const {
      constexpr std::int64_t together = nibble_register_coordinates / lanes;
      const __m512i indices = _mm512_load_si512(nibbles + chunk / together * nibble_register_bytes);
      const __m128i shift = _mm_cvtsi32_si128(static_cast<int>(4 * (chunk % together)));
      return _mm512_permutexvar_ps(_mm512_srl_epi32(indices, shift), centroids);
    }
    ROTORQUANT_AVX512_INLINE __m512 load(std::int64_t chunk, __mmask16 mask) const {
      return _mm512_maskz_mov_ps(mask, load(chunk));
    }
  };
  ROTORQUANT_AVX512_INLINE Row row(std::int64_t r) const {
    return {nibbles + r * nibble_bytes(cols), _mm512_load_ps(codebook->centroids.data())};
  }

  const std::uint8_t* nibbles;  // [rows, nibble_bytes(cols)]
  const PlaneCodebook* codebook;
  std::int64_t rows;
  Extent cols;
};

struct PlainSink {
  struct Constants {};
  struct Row {
    float* data;

    ROTORQUANT_AVX512_INLINE void store(Constants, std::int64_t chunk, __m512 values) const {
      _mm512_storeu_ps(data + chunk * lanes, values);
    }
    ROTORQUANT_AVX512_INLINE void store(Constants, std::int64_t chunk, __mmask16 mask, __m512 values) const {
      _mm512_mask_storeu_ps(data + chunk * lanes, mask, values);
    }
  };
  ROTORQUANT_AVX512_INLINE Constants constants() const { return {}; }
  ROTORQUANT_AVX512_INLINE Row row(std::int64_t r) const { return {data + r * cols}; }

  float* data;
  std::int64_t cols;
};

template <ElementType type, bool past_caches, typename Extent>
struct ScaledSink {
  struct Constants {};
  struct Row {
    std::uint8_t* data;
    __m512 factor;

    ROTORQUANT_AVX512_INLINE void store(Constants, std::int64_t chunk, __m512 values) const {
      const __m512 scaled = _mm512_mul_ps(values, factor);
      if constexpr (past_caches) {
        avx512::stream<type>(scaled, data, chunk * lanes);
      } else {
        avx512::store<type>(scaled, data, chunk * lanes);
      }
    }
    ROTORQUANT_AVX512_INLINE void store(Constants, std::int64_t chunk, __mmask16 mask, __m512 values) const {
      avx512::store<type>(_mm512_mul_ps(values, factor), data, chunk * lanes, mask);
    }
  };
  ROTORQUANT_AVX512_INLINE Constants constants() const { return {}; }
  ROTORQUANT_AVX512_INLINE Row row(std::int64_t r) const {
    return {data + r * cols * element_bytes(type), _mm512_set1_ps(factors[r])};
  }

  std::uint8_t* data;
  const float* factors;  // [rows]
  Extent cols;
};

// Bit planes of the indices.
template <int bits, typename Extent>
struct PlaneSink {
  struct Constants {
    SymmetricSearch<bits> search;
  };
  struct Row {
    std::uint8_t* planes;
    std::int64_t stride;

    ROTORQUANT_AVX512_INLINE void store(const Constants& constants, std::int64_t chunk, __m512 values) const {
      __mmask16 masks[bits];
      constants.search(values, masks);
      for (int j = 0; j < bits; ++j) std::memcpy(planes + j * stride + 2 * chunk, &masks[j], 2);
    }
    ROTORQUANT_AVX512_INLINE void store(const Constants& constants, std::int64_t chunk, __mmask16 mask,
                                        __m512 values) const {
      __mmask16 masks[bits];
      constants.search(values, masks);
      for (int j = 0; j < bits; ++j) masks[j] = static_cast<__mmask16>(masks[j] & mask);
      store_masks<bits>(masks, planes, stride, chunk);
    }
  };
  ROTORQUANT_AVX512_INLINE Constants constants() const { return {SymmetricSearch<bits>(*codebook)}; }
  ROTORQUANT_AVX512_INLINE Row row(std::int64_t r) const {
    const std::int64_t stride = plane_bytes(cols);
    return {planes + r * bits * stride, stride};
  }

  std::uint8_t* planes;
  const PlaneCodebook* codebook;
  Extent cols;
};

// body(source) for the rows of x, scaled.
template <typename Body>
void with_source(const ConstHostTensor& x, const float* factors, const Body& body) {
  dispatch_type(x.type, [&]<ElementType type>() {
    body(ScaledSource<type>{static_cast<const std::uint8_t*>(x.data), factors, x.rows, x.cols});
  });
}

// body(source) for rows of 16-bit numbers as unit vectors, whose norms [x.rows] it finds; cols is x's.
template <typename Extent, typename Body>
void with_unit_source(const ConstHostTensor& x, Extent cols, float* norms, const Body& body) {
  const auto with_type = [&]<ElementType type>() {
    using Source = UnitSource<type, Extent>;
    static thread_local ScratchFloats scratch;
    const std::int64_t size = Source::kept_rows * Source::stride(cols);
    float* numbers = scratch.reserve(size + x.rows);
    body(Source{static_cast<const std::uint8_t*>(x.data), x.rows, cols, norms, numbers + size, numbers});
  };
  if (x.type == ElementType::float16) return with_type.template operator()<ElementType::float16>();
  with_type.template operator()<ElementType::bfloat16>();
}

// body(sink) for the rows of `out`, scaled; past the caches where that is asked for and its rows allow it.
// cols is out's.
template <typename Extent, typename Body>
void with_sink(const HostTensor& out, Extent cols, const float* factors, bool stream, const Body& body) {
  auto* data = static_cast<std::uint8_t*>(out.data);
  dispatch_type(out.type, [&]<ElementType type>() {
    if (stream && streams_whole(out)) return body(ScaledSink<type, true, Extent>{data, factors, cols});
    body(ScaledSink<type, false, Extent>{data, factors, cols});
  });
}

// body(std::integral_constant<int, bits>{}) for the width of a codebook in registers.
template <typename Body>
void with_plane_bits(const PlaneCodebook& codebook, const Body& body) {
  if (codebook.bits == 2) return body(std::integral_constant<int, 2>{});
  if (codebook.bits == 3) return body(std::integral_constant<int, 3>{});
  body(std::integral_constant<int, 4>{});
}

}  // namespace rotorquant::avx512
