#pragma once
// Where attention reads keys and values: from bit planes with fp16 norms, or (the baseline) from fp16 rows. A
// source says how a warp brings tiles of tokens to shared memory and multiplies them; attention_kernel.cuh
// does the rest.
//
// A Source has: dim; tile, tokens a warp takes at a time; stages, tiles on their way; stage_bytes;
// table_bytes, of tables in shared memory that the block's threads make by fill_tables(tables);
//   fetch(shared, first, count): one group of background copies of tokens first .. first + count, the rest of the tile zeros;
//   score(shared, j, query, sums): sums += query x keys 8 j .. 8 j + 7 (16 x 8, fp32);
//   key_norms, value_norms(shared, j): of the tokens 8 j + 2 t and 8 j + 2 t + 1;
//   accumulate(shared, u, b0, b1, sums): sums[s] += values of the tokens 16 u .. 16 u + 15, transposed, x weights;
//   query_unit, output_unit: factors of the queries and of the sums, where operands are in a unit of their own;
//   query_coordinate(t, s, i), output_coordinate(g, s, upper): which coordinate an operand's element is.
// A source with sketches of the keys' residuals also has: sketched, true; sketched_queries() and sketch_unit(), as queries
// and query_unit; score_signs, as score; residual_norms, as key_norms.
#include "rotorquant/device/plane_fragments.cuh"
#include "rotorquant/device/warp_tile.cuh"

namespace rotorquant::device {

// Codes of the heads' tokens; pointers are to the first head, heads lie `capacity` tokens apart.
struct PlaneTokens {
  const std::uint8_t* planes;
  const __half* norms;
  HalfCentroids centroids;

  // From this token on.
  template <int row_bytes>
  __device__ PlaneTokens at(std::int64_t token) const {
    return {planes + token * row_bytes, norms + token, centroids};
  }
};

template <int bytes>
__device__ __forceinline__ void copy_async(void* shared, const void* global, bool valid) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  const int read = valid ? bytes : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(address), "l"(global), "n"(bytes),
               "r"(read)
               : "memory");
}

// Planes of `bits` bits and their norms, as a tile of a stage has them.
template <int D, int bits>
struct PlaneTile {
  static constexpr int tokens = 32;
  static constexpr int row_bytes = bits * D / 8;
  // An odd number of 16-byte units apart: a warp's 32 words of eight keys lie in 32 banks.
  static constexpr int pitch = D == 128 ? 16 * (bits | 1) : row_bytes;
  static constexpr int bytes = tokens * pitch + tokens * 2;

  // A part of a group of background copies; the codes are those of the head.
  static __device__ __forceinline__ void fetch(std::uint8_t* shared, const std::uint8_t* planes,
                                               const __half* norms, std::int64_t first, int count) {
    constexpr int unit = D / 8;
    const int lane = static_cast<int>(threadIdx.x % warp_size);
    const std::uint8_t* const from = planes + first * row_bytes;
#pragma unroll
    for (int j = 0; j < bits; ++j) {
      const int i = lane + warp_size * j;
      const bool valid = i / bits < count;
      copy_async<unit>(shared + i / bits * pitch + i % bits * unit, valid ? from + unit * i : from, valid);
    }
    if (lane < tokens / 2) {
      // The capacity is even, so that a pair's second norm may be read even where it is not used.
      const bool valid = 2 * lane < count;
      copy_async<4>(shared + tokens * pitch + 4 * lane, norms + first + (valid ? 2 * lane : 0), valid);
    }
  }

  // Of the tokens 8 j + 2 t and 8 j + 2 t + 1.
  static __device__ __forceinline__ float2 norms_at(const std::uint8_t* shared, int j) {
    const int t = static_cast<int>(threadIdx.x % 4);
    return __half22float2(reinterpret_cast<const __half2*>(shared + tokens * pitch)[4 * j + t]);
  }

  // sums += query x keys 8 j .. 8 j + 7.
  static __device__ __forceinline__ void score(const std::uint8_t* shared, int j,
                                               const HalfCentroids& centroids,
                                               const std::uint32_t (&query)[D / 16][4], float (&sums)[4]) {
    const int lane = static_cast<int>(threadIdx.x % warp_size);
    KeyFragments<D, bits> keys;
    keys.load(shared + (8 * j + lane / 4) * pitch, lane % 4);
    float more[4] = {};  // a second chain of products, for one would wait for itself
#pragma unroll
    for (int k = 0; k < D / 32; ++k) {
      std::uint32_t b[4];
      keys.steps_of(centroids, k, b);
      multiply_add(sums, query[2 * k], b[0], b[1]);
      multiply_add(more, query[2 * k + 1], b[2], b[3]);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[i] += more[i];
  }
};

// Keys and values as planes, of widths of their own.
template <int D, int key_bits, int value_bits>
struct PlaneSource {
  using Keys = PlaneTile<D, key_bits>;
  using Values = PlaneTile<D, value_bits>;
  static constexpr int dim = D;
  static constexpr int tile = Keys::tokens;
  static constexpr int stages = 3;
  static constexpr int stage_bytes = (Keys::bytes + Values::bytes + 15) / 16 * 16;
  static constexpr int table_bytes = 0;

  struct Parameters {
    PlaneTokens keys, values;
    std::int64_t capacity;
  };

  PlaneTokens keys, values;  // the head's
  const Parameters& p;

  __device__ PlaneSource(const Parameters& parameters, std::int64_t head, const std::uint8_t*)
      : keys(parameters.keys.at<Keys::row_bytes>(head * parameters.capacity)),
        values(parameters.values.at<Values::row_bytes>(head * parameters.capacity)),
        p(parameters) {}

  __device__ __forceinline__ void fetch(std::uint8_t* shared, std::int64_t first, int count) const {
    copy(shared, first, count);
    commit_copies();
  }

  __device__ __forceinline__ float query_unit() const { return p.keys.centroids.unit; }
  static float output_unit(const Parameters& p) { return p.values.centroids.unit; }

  using KeyOrder = KeyFragments<D, key_bits>;
  using ValueOrder = ValueFragments<D, value_bits>;
  static __device__ constexpr int query_coordinate(int t, int s, int i) {
    return KeyOrder::key_coordinate(t, s, i);
  }
  static __device__ constexpr int output_coordinate(int g, int s, int upper) {
    return ValueOrder::value_coordinate(g, s, upper);
  }

  __device__ __forceinline__ void score(const std::uint8_t* shared, int j,
                                        const std::uint32_t (&query)[D / 16][4], float (&sums)[4]) const {
    Keys::score(shared, j, p.keys.centroids, query, sums);
  }
  __device__ __forceinline__ float2 key_norms(const std::uint8_t* shared, int j) const {
    return Keys::norms_at(shared, j);
  }
  __device__ __forceinline__ float2 value_norms(const std::uint8_t* shared, int j) const {
    return Values::norms_at(shared + Keys::bytes, j);
  }
  __device__ __forceinline__ void accumulate(const std::uint8_t* shared, int u, std::uint32_t b0,
                                             std::uint32_t b1, float (&sums)[D / 16][4]) const {
    const int lane = static_cast<int>(threadIdx.x % warp_size);
    ValueOrder operand;
    operand.load(shared + Keys::bytes + 16 * u * Values::pitch, Values::pitch, lane / 4, lane % 4);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      std::uint32_t a[ValueOrder::tiles_together][4];
      operand.tiles_of(p.values.centroids, k, a);
#pragma unroll
      for (int i = 0; i < ValueOrder::tiles_together; ++i) {
        multiply_add(sums[ValueOrder::tiles_together * k + i], a[i], b0, b1);
      }
    }
  }

 protected:
  __device__ __forceinline__ void copy(std::uint8_t* shared, std::int64_t first, int count) const {
    Keys::fetch(shared, keys.planes, keys.norms, first, count);
    Values::fetch(shared + Keys::bytes, values.planes, values.norms, first, count);
  }
};

// Two-stage keys (quantizers/prod_codec.hpp): behind planes and norms the signs and norms of residuals, as
// many signs as coordinates, which count as planes of one bit.
template <int D, int key_bits, int value_bits>
struct SketchedSource : PlaneSource<D, key_bits, value_bits> {
  using Plain = PlaneSource<D, key_bits, value_bits>;
  using Signs = PlaneTile<D, 1>;
  static constexpr bool sketched = true;
  static constexpr int sign_offset = Plain::stage_bytes;
  static constexpr int stage_bytes = (sign_offset + Signs::bytes + 15) / 16 * 16;

  struct Parameters : Plain::Parameters {
    PlaneTokens signs;
    const float* sketched_queries;  // [heads, queries_per_head, D]
  };

  PlaneTokens signs;
  const Parameters& p;

  __device__ SketchedSource(const Parameters& parameters, std::int64_t head, const std::uint8_t* tables)
      : Plain(parameters, head, tables),
        signs(parameters.signs.template at<Signs::row_bytes>(head * parameters.capacity)),
        p(parameters) {}

  __device__ __forceinline__ void fetch(std::uint8_t* shared, std::int64_t first, int count) const {
    Plain::copy(shared, first, count);
    Signs::fetch(shared + sign_offset, signs.planes, signs.norms, first, count);
    commit_copies();
  }

  __device__ __forceinline__ const float* sketched_queries() const { return p.sketched_queries; }
  __device__ __forceinline__ float sketch_unit() const { return p.signs.centroids.unit; }
  __device__ __forceinline__ void score_signs(const std::uint8_t* shared, int j,
                                              const std::uint32_t (&query)[D / 16][4],
                                              float (&sums)[4]) const {
    Signs::score(shared + sign_offset, j, p.signs.centroids, query, sums);
  }
  __device__ __forceinline__ float2 residual_norms(const std::uint8_t* shared, int j) const {
    return Signs::norms_at(shared + sign_offset, j);
  }
};

// fp16 rows [heads, capacity, D], keys and values.
template <int D>
struct HalfSource {
  static constexpr int dim = D;
  static constexpr int tile = 16;
  static constexpr int stages = 3;
  static constexpr int pitch = 2 * D + 16;
  static constexpr int half_stage = tile * pitch;
  static constexpr int stage_bytes = 2 * half_stage;
  static constexpr int table_bytes = 0;

  struct Parameters {
    const __half* keys;
    const __half* values;
    std::int64_t capacity;
  };

  const __half* rows[2];

  __device__ HalfSource(const Parameters& p, std::int64_t head, const std::uint8_t*)
      : rows{p.keys + head * p.capacity * D, p.values + head * p.capacity * D} {}

  __device__ __forceinline__ void fetch(std::uint8_t* shared, std::int64_t first, int count) const {
    constexpr int chunks = D / 8;
    const int lane = static_cast<int>(threadIdx.x % warp_size);
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      const auto* const from = reinterpret_cast<const uint4*>(rows[side] + first * D);
#pragma unroll
      for (int j = 0; j < tile * chunks / warp_size; ++j) {
        const int i = lane + warp_size * j;
        const bool valid = i / chunks < count;
        copy_async_16(shared + side * half_stage + i / chunks * pitch + i % chunks * 16,
                      valid ? from + i : from, valid);
      }
    }
    commit_copies();
  }

  __device__ __forceinline__ float query_unit() const {
    return 1.0F;
  }
  static float output_unit(const Parameters&) {
    return 1.0F;
  }

  static __device__ constexpr int query_coordinate(int t, int s, int i) {
    return 16 * s + 8 * (i / 2) + 2 * t + i % 2;
  }
  static __device__ constexpr int output_coordinate(int g, int s, int upper) {
    return 16 * s + 8 * upper + g;
  }

  __device__ __forceinline__ void score(const std::uint8_t* shared, int j,
                                        const std::uint32_t (&query)[D / 16][4], float (&sums)[4]) const {
    const int lane = static_cast<int>(threadIdx.x % warp_size);
    const auto address =
        static_cast<unsigned>(__cvta_generic_to_shared(shared + (8 * j + lane % 8) * pitch + lane / 8 * 16));
#pragma unroll
    for (int s = 0; s < D / 16; s += 2) {
      std::uint32_t b[4];
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                   : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3])
                   : "r"(address + 32 * s)
                   : "memory");
      multiply_add(sums, query[s], b[0], b[1]);
      multiply_add(sums, query[s + 1], b[2], b[3]);
    }
  }
  __device__ __forceinline__ float2 key_norms(const std::uint8_t*, int) const {
    return {1.0F, 1.0F};
  }
  __device__ __forceinline__ float2 value_norms(const std::uint8_t*, int) const {
    return {1.0F, 1.0F};
  }
  __device__ __forceinline__ void accumulate(const std::uint8_t* shared, int u, std::uint32_t b0,
                                             std::uint32_t b1, float (&sums)[D / 16][4]) const {
    const int lane = static_cast<int>(threadIdx.x % warp_size);
    // Matrices: keys 0..7 and coordinates 0..7; 8..15 of the coordinates; then keys 8..15 likewise.
    const int key = 16 * u + lane % 8 + lane / 16 * 8;
    const auto address = static_cast<unsigned>(
        __cvta_generic_to_shared(shared + half_stage + key * pitch + lane / 8 % 2 * 16));
#pragma unroll
    for (int s = 0; s < D / 16; ++s) {
      std::uint32_t a[4];
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                   : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
                   : "r"(address + 32 * s)
                   : "memory");
      multiply_add(sums[s], a, b0, b1);
    }
  }
};

}  // namespace rotorquant::device
