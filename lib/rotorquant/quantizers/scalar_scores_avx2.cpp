// Scores with AVX2, of rows and from codes, exactly and with 8-bit integers. Codes are taken eight rows at a
// time with a row in each lane: running sums are then registers of their own, and eight scores come out in
// one.
#include "rotorquant/quantizers/scalar_kernels.hpp"

#if defined(__x86_64__)
#include <algorithm>
#include <cstring>
#include <vector>

#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/codes/code_columns_avx2.hpp"
#include "rotorquant/core/dispatch.hpp"
#include "rotorquant/core/folds_avx2.hpp"
#include "rotorquant/core/scratch.hpp"
#include "rotorquant/quantizers/ordered_query.hpp"

namespace rotorquant {
namespace {

using namespace avx2;

constexpr std::int64_t queries_together = 4;
constexpr int groups_together = 2;  // of eight rows
// Most bits of which these kernels take codes; those of more are looked up and scored as rows.
constexpr int most_column_bits = 4;

// Scores of `together` queries from `first` on with one row, whose coordinates [c, c + 8) are coordinates(c).
template <int together, typename Coordinates>
ROTORQUANT_AVX2_INLINE void score_row(const ScoreQueries& queries, std::int64_t first, float scale,
                                      const ScoreRows& scores, const Coordinates& coordinates) {
  __m256 sums[together][2];
  for (auto& sum : sums) sum[0] = sum[1] = _mm256_setzero_ps();
  for_each_eight(queries.dim, [&](std::int64_t c, int half) ROTORQUANT_AVX2_LAMBDA {
    const __m256 y = coordinates(c);
    for (int i = 0; i < together; ++i) {
      const __m256 query = _mm256_loadu_ps(queries.values + (first + i) * queries.stride + c);
      sums[i][half] = _mm256_add_ps(sums[i][half], _mm256_mul_ps(query, y));
    }
  });
  for (int i = 0; i < together; ++i)
    scores.data[(first + i) * scores.stride] = scale * fold(sums[i][0], sums[i][1]);
}

template <typename Coordinates>
ROTORQUANT_AVX2_INLINE void score_queries(const ScoreQueries& queries, float scale, const ScoreRows& scores,
                                          const Coordinates& coordinates) {
  std::int64_t i = 0;
  for (; i + queries_together <= queries.count; i += queries_together)
    score_row<queries_together>(queries, i, scale, scores, coordinates);
  for (; i < queries.count; ++i) score_row<1>(queries, i, scale, scores, coordinates);
}

// body(first row, rows, their codes), `together` rows at a time. Where the last ones are fewer, or a read of
// their columns would go beyond the codes, they are a copy with zeros behind.
template <std::int64_t together, int bits, typename Body>
ROTORQUANT_AVX2_INLINE void for_rows(const PlaneColumns<bits>& columns, const std::uint8_t* planes,
                                     std::int64_t rows, const Body& body) {
  const std::int64_t code_bytes = columns.code_bytes();
  const std::int64_t touched = columns.touched_bytes(together);
  for (std::int64_t t = 0; t < rows; t += together) {
    const std::uint8_t* codes = planes + t * code_bytes;
    const std::int64_t left = (rows - t) * code_bytes;
    if (left < touched) {
      static thread_local std::vector<std::uint8_t> padded;
      padded.assign(static_cast<std::size_t>(touched), 0);
      std::copy_n(codes, left, padded.begin());
      codes = padded.data();
    }
    body(t, std::min(together, rows - t), codes);
  }
}

template <int bits>
ROTORQUANT_AVX2_INLINE void symbols_of_block(const PlaneColumns<bits>& columns, const float* words,
                                             std::int64_t block, __m256i (&symbols)[8]) {
  __m256i planes[bits];
  for (int j = 0; j < bits; ++j) planes[j] = columns.word(words, j, block);
  symbols_of<bits>(planes, symbols);
}

// Symbols of eight rows in memory, from which a load gives those of one coordinate, a lane for each row,
// below others' bits: a cache line for each register of symbols_of(), of which the load begins at a byte.
class SymbolLines {
 public:
  static std::int64_t floats(std::int64_t blocks) { return blocks * 8 * line_floats; }
  explicit SymbolLines(float* memory) : lines_(memory) {}

  template <int bits>
  ROTORQUANT_AVX2_INLINE void fill(const PlaneColumns<bits>& columns, const float* words) const {
    for (std::int64_t b = 0; b < columns.blocks(); ++b) {
      __m256i symbols[8];
      symbols_of_block(columns, words, b, symbols);
#pragma GCC unroll 8
      for (int r = 0; r < 8; ++r)
        _mm256_store_si256(reinterpret_cast<__m256i*>(lines_ + (8 * b + r) * line_floats), symbols[r]);
    }
  }
  // Of coordinate 32 block + r + 8 q.
  ROTORQUANT_AVX2_INLINE __m256i get(std::int64_t block, int r, int q) const {
    const auto* line = reinterpret_cast<const std::uint8_t*>(lines_ + (8 * block + r) * line_floats);
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line + q));
  }

 private:
  static constexpr std::int64_t line_floats = 16;
  float* lines_;
};

// A table of 2^bits floats, repeated so that bits above a symbol's do not matter.
template <int bits>
struct Entries {
  static constexpr int registers = bits == 4 ? 2 : 1;
  __m256 values[registers];

  ROTORQUANT_AVX2_INLINE static Entries of(const float* table) {
    Entries entries;
    float repeated[registers * lanes];
    for (int i = 0; i < registers * lanes; ++i) repeated[i] = table[i % (1 << bits)];
    for (int i = 0; i < registers; ++i) entries.values[i] = _mm256_loadu_ps(repeated + i * lanes);
    return entries;
  }
  ROTORQUANT_AVX2_INLINE __m256 pick(__m256i symbols) const {
    const __m256 low = _mm256_permutevar8x32_ps(values[0], symbols);
    if constexpr (registers == 1) return low;
    const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(symbols, 28));
    return _mm256_blendv_ps(low, _mm256_permutevar8x32_ps(values[registers - 1], symbols), upper);
  }
};

// Makes the compiler load x first, where it would read it from memory as an operand: such permutations take
// some cores twice as long.
ROTORQUANT_AVX2_INLINE void in_register(__m256& x) {
  asm volatile("" : "+x"(x));
}

// A query's products with every centroid, [dim, registers of Entries], in place of multiplications.
template <int bits>
ROTORQUANT_AVX2_INLINE void multiply_entries(const Entries<bits>& centroids, const float* query,
                                             std::int64_t dim, float* products) {
  for (std::int64_t c = 0; c < dim; ++c) {
    for (const __m256 values : centroids.values) {
      _mm256_store_ps(products, _mm256_mul_ps(_mm256_broadcast_ss(query + c), values));
      products += lanes;
    }
  }
}

// Of one query whose products with the centroids are given, of two groups of eight rows, which share the
// loads of products.
template <int bits>
ROTORQUANT_AVX2_INLINE void score_products(const SymbolLines (&symbols)[groups_together], std::int64_t blocks,
                                           const float* products, __m256 (&scores)[groups_together]) {
  constexpr int together = 2;  // of eight registers of symbols: with two sums each, what registers hold
  __m256 folded[groups_together][8];
#pragma GCC unroll 4
  for (int first = 0; first < 8; first += together) {
    __m256 sums[groups_together][2][together];
    for (auto& group : sums) {
      for (auto& half : group) {
        for (__m256& sum : half) sum = _mm256_setzero_ps();
      }
    }
    for (std::int64_t b = 0; b < blocks; ++b) {
#pragma GCC unroll 4
      for (int q = 0; q < 4; ++q) {
#pragma GCC unroll 2
        for (int r = first; r < first + together; ++r) {
          Entries<bits> entries;
          for (int i = 0; i < entries.registers; ++i) {
            entries.values[i] =
                _mm256_load_ps(products + ((32 * b + 8 * q + r) * entries.registers + i) * lanes);
            in_register(entries.values[i]);
          }
#pragma GCC unroll 2
          for (int g = 0; g < groups_together; ++g) {
            __m256& sum = sums[g][q % 2][r - first];
            sum = _mm256_add_ps(sum, entries.pick(symbols[g].get(b, r, q)));
          }
        }
      }
    }
    for (int g = 0; g < groups_together; ++g) {
      for (int r = 0; r < together; ++r) folded[g][first + r] = _mm256_add_ps(sums[g][0][r], sums[g][1][r]);
    }
  }
  for (int g = 0; g < groups_together; ++g) scores[g] = fold_columns(folded[g]);
}

// Of four queries, which share the centroids.
template <int bits>
ROTORQUANT_AVX2_INLINE void score_together(const SymbolLines& symbols, std::int64_t blocks,
                                           const Entries<bits>& centroids, const float* queries,
                                           std::int64_t stride, __m256 (&scores)[queries_together]) {
  __m256 folded[queries_together][8];
#pragma GCC unroll 8
  for (int r = 0; r < 8; ++r) {
    __m256 sums[2][queries_together];
    for (auto& half : sums) {
      for (__m256& sum : half) sum = _mm256_setzero_ps();
    }
    for (std::int64_t b = 0; b < blocks; ++b) {
#pragma GCC unroll 4
      for (int q = 0; q < 4; ++q) {
        const __m256 values = centroids.pick(symbols.get(b, r, q));
        const float* place = queries + 32 * b + 8 * q + r;
#pragma GCC unroll 4
        for (int i = 0; i < queries_together; ++i)
          sums[q % 2][i] =
              _mm256_add_ps(sums[q % 2][i], _mm256_mul_ps(_mm256_broadcast_ss(place + i * stride), values));
      }
    }
    for (int i = 0; i < queries_together; ++i) folded[i][r] = _mm256_add_ps(sums[0][i], sums[1][i]);
  }
  for (int i = 0; i < queries_together; ++i) scores[i] = fold_columns(folded[i]);
}

template <int bits>
ROTORQUANT_AVX2 void score_bits(const ScalarTables& tables, const ScoreQueries& queries,
                                const std::uint8_t* planes, const float* scales, std::int64_t rows,
                                const ScoreRows& scores) {
  const PlaneColumns<bits> columns(queries.dim);
  const std::int64_t blocks = columns.blocks();
  const auto centroids = Entries<bits>::of(tables.centroids.data());
  const std::int64_t alone = queries.count % queries_together;  // they have tables of products
  const std::int64_t product_floats = 32 * blocks * centroids.registers * lanes;
  static thread_local ScratchFloats word_scratch, line_scratch, product_scratch;
  float* words = word_scratch.reserve(columns.floats());
  float* products = product_scratch.reserve(alone * product_floats);
  const std::int64_t line_floats = SymbolLines::floats(blocks);
  float* lines = line_scratch.reserve(groups_together * line_floats);
  const SymbolLines symbols[groups_together] = {SymbolLines(lines), SymbolLines(lines + line_floats)};
  for (std::int64_t i = 0; i < alone; ++i)
    multiply_entries<bits>(centroids, queries.values + (queries.count - alone + i) * queries.stride,
                           32 * blocks, products + i * product_floats);
  for_rows<groups_together * lanes>(
      columns, planes, rows,
      [&](std::int64_t t, std::int64_t count, const std::uint8_t* codes) ROTORQUANT_AVX2_LAMBDA {
        for (int g = 0; g < groups_together; ++g) {
          columns.read(codes + g * lanes * columns.code_bytes(), words);
          symbols[g].fill(columns, words);
        }
        const auto finish = [&](int g, std::int64_t query, __m256 sums) ROTORQUANT_AVX2_LAMBDA {
          const std::int64_t first = g * lanes;
          if (first >= count) return;
          const __m256 scale = load<ElementType::float32>(scales + t, first, count - first);
          store<ElementType::float32>(_mm256_mul_ps(scale, sums), scores.data + query * scores.stride + t,
                                      first, count - first);
        };
        std::int64_t i = 0;
        for (; i + queries_together <= queries.count; i += queries_together) {
          for (int g = 0; g < groups_together; ++g) {
            __m256 sums[queries_together];
            score_together<bits>(symbols[g], blocks, centroids, queries.values + i * queries.stride,
                                 queries.stride, sums);
            for (int k = 0; k < queries_together; ++k) finish(g, i + k, sums[k]);
          }
        }
        for (const float* own = products; i < queries.count; ++i, own += product_floats) {
          __m256 sums[groups_together];
          score_products<bits>(symbols, blocks, own, sums);
          for (int g = 0; g < groups_together; ++g) finish(g, i, sums[g]);
        }
      });
}

// Sums over coordinates of level times integer of eight rows and some queries, whose integers are in the
// order of order_query().
template <int bits, int together>
ROTORQUANT_AVX2_INLINE void level_sums(const PlaneColumns<bits>& columns, const float* words, __m256i levels,
                                       const std::int32_t* ordered, std::int64_t stride,
                                       __m256i (&sums)[together]) {
  for (__m256i& sum : sums) sum = _mm256_setzero_si256();
  for (std::int64_t b = 0; b < columns.blocks(); ++b) {
    __m256i symbols[8];
    symbols_of_block(columns, words, b, symbols);
#pragma GCC unroll 8
    for (int r = 0; r < 8; ++r) {
      const __m256i index =
          clear_symbols<bits> ? symbols[r] : _mm256_and_si256(symbols[r], _mm256_set1_epi8(0x0F));
      const __m256i own = _mm256_shuffle_epi8(levels, index);
      // Unsigned bytes times signed ones, whose sums of two fit in 16 bits: none is beyond 127.
      const __m256i magnitudes = _mm256_abs_epi8(own);
#pragma GCC unroll 4
      for (int i = 0; i < together; ++i) {
        const __m256i query = _mm256_set1_epi32(ordered[i * stride + 8 * b + r]);
        const __m256i products = _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(query, own));
        sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(products, _mm256_set1_epi16(1)));
      }
    }
  }
}

template <int bits>
ROTORQUANT_AVX2 void integer_bits(const ScalarTables& tables, const IntegerQueries& queries,
                                  const std::uint8_t* planes, const float* scales, std::int64_t rows,
                                  const ScoreRows& scores) {
  // Symbols come with others' bits above their own.
  std::uint8_t repeated[16];
  for (std::size_t i = 0; i < 16; ++i) repeated[i] = tables.levels[i % (std::size_t{1} << bits)];
  const __m256i levels = _mm256_xor_si256(
      _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(repeated))),
      _mm256_set1_epi8(-128));
  const PlaneColumns<bits> columns(queries.dim);
  static thread_local ScratchFloats word_scratch;
  float* words = word_scratch.reserve(columns.floats());
  static thread_local std::vector<std::int32_t> ordered;
  const std::int64_t stride = ordered_words(queries.dim);
  ordered.resize(static_cast<std::size_t>(queries.count * stride));
  for (std::int64_t i = 0; i < queries.count; ++i)
    order_query(queries.values + i * queries.stride, queries.dim, ordered.data() + i * stride);
  for_rows<lanes>(
      columns, planes, rows,
      [&](std::int64_t t, std::int64_t count, const std::uint8_t* codes) ROTORQUANT_AVX2_LAMBDA {
        columns.read(codes, words);
        const __m256 scale = load<ElementType::float32>(scales + t, 0, count);
        const auto score = [&]<int together>(std::int64_t first) ROTORQUANT_AVX2_LAMBDA {
          __m256i sums[together];
          level_sums<bits, together>(columns, words, levels, ordered.data() + first * stride, stride, sums);
          for (int i = 0; i < together; ++i) {
            const __m256 product =
                _mm256_mul_ps(_mm256_set1_ps(queries.factors[first + i]), _mm256_cvtepi32_ps(sums[i]));
            store<ElementType::float32>(_mm256_mul_ps(scale, product),
                                        scores.data + (first + i) * scores.stride + t, 0, count);
          }
        };
        std::int64_t i = 0;
        for (; i + queries_together <= queries.count; i += queries_together)
          score.template operator()<queries_together>(i);
        for (; i < queries.count; ++i) score.template operator()<1>(i);
      });
}

}  // namespace

ROTORQUANT_AVX2 void score_avx2(const ScoreQueries& queries, const float* y, const float* scales,
                                std::int64_t rows, const ScoreRows& scores) {
  for (std::int64_t t = 0; t < rows; ++t) {
    const auto coordinates = [&](std::int64_t c) ROTORQUANT_AVX2_LAMBDA {
      return load<ElementType::float32>(y + t * queries.dim, c, queries.dim - c);
    };
    score_queries(queries, scales[t], {scores.data + t, scores.stride}, coordinates);
  }
}

void score_codes_avx2(const ScalarTables& tables, const ScoreQueries& queries, const std::uint8_t* planes,
                      const float* scales, std::int64_t rows, const ScoreRows& scores) {
  dispatch_bits(tables.bits, [&](auto bits) {
    if constexpr (bits() <= most_column_bits)
      score_bits<bits()>(tables, queries, planes, scales, rows, scores);
  });
  if (tables.bits <= most_column_bits) return;
  constexpr std::int64_t block = 64;
  const std::int64_t code_bytes = tables.bits * plane_bytes(queries.dim);
  static thread_local ScratchFloats value_scratch;
  float* values = value_scratch.reserve(block * queries.dim);
  for (std::int64_t t = 0; t < rows; t += block) {
    const std::int64_t count = std::min(block, rows - t);
    scalar_kernels_avx2.look_up(tables, planes + t * code_bytes, count, queries.dim, values);
    score_avx2(queries, values, scales + t, count, {scores.data + t, scores.stride});
  }
}

void score_integers_avx2(const ScalarTables& tables, const IntegerQueries& queries,
                         const std::uint8_t* planes, const float* scales, std::int64_t rows,
                         const ScoreRows& scores) {
  dispatch_bits(tables.bits, [&](auto bits) {
    if constexpr (bits() <= most_integer_bits)
      integer_bits<bits()>(tables, queries, planes, scales, rows, scores);
  });
}

}  // namespace rotorquant
#endif
