#include "rotorquant/core/half.hpp"
#include "rotorquant/device/byte_products.cuh"
#include "rotorquant/device/integer_queries.cuh"
#include "rotorquant/device/launch.cuh"
#include "rotorquant/device/nibbles.cuh"
#include "rotorquant/device/plane_scores.cuh"
#include "rotorquant/device/warp_tile.cuh"

namespace rotorquant::device {
namespace {

constexpr int score_warps = 4;
constexpr int score_tile = 64;  // keys a warp takes at a time
constexpr int score_stages = 3;
constexpr int block_queries = 4;      // columns of one product: two bytes each
constexpr int most_query_blocks = 2;  // that share the look-ups of one pass over the codes

template <int D, int bits>
struct ScoreStage {
  static constexpr int row_bytes = bits * D / 8;
  // An odd number of 16-byte units apart: a warp's 32 words of eight keys lie in 32 banks.
  static constexpr int pitch = D == 128 ? 16 * (bits | 1) : row_bytes;
  static constexpr int chunks = score_tile * row_bytes / 16;
  static constexpr int norm_offset = score_tile * pitch;
  static constexpr int bytes = norm_offset + 2 * score_tile;

  // Where 16-byte chunk i of a tile lies. Of chunks `step` apart a warp's lanes find theirs at constant
  // distances.
  static __device__ __forceinline__ int place_of(int i) {
    return pitch == row_bytes ? 16 * i : i / bits * pitch + i % bits * 16;
  }
  static constexpr int stride = pitch == row_bytes ? 16 * warp_size : warp_size / bits * pitch;
  static_assert(pitch == row_bytes || warp_size % bits == 0);
  static_assert(chunks % warp_size == 0);

  // A part of a group of background copies; what lies past the end becomes zeros.
  static __device__ __forceinline__ void fetch(std::uint8_t* shared, const std::uint8_t* codes,
                                               const __half* norms, std::int64_t first, int count) {
    const int lane = static_cast<int>(threadIdx.x % warp_size);
    const std::uint8_t* const from = codes + first * row_bytes + 16 * lane;
    std::uint8_t* const to = shared + place_of(lane);
    const __half* const kept = norms + first + 8 * lane;
    std::uint8_t* const norm_chunk = shared + norm_offset + 16 * lane;
    if (count == score_tile) {
#pragma unroll
      for (int j = 0; j < chunks / warp_size; ++j) copy_async_16(to + j * stride, from + j * 16 * warp_size);
      if (lane < score_tile / 8) copy_async_16(norm_chunk, kept);
    } else {
#pragma unroll 1
      for (int j = 0; j < chunks / warp_size; ++j) {
        const int at = j * 16 * warp_size;
        copy_async_part(to + j * stride, from + at, count * row_bytes - 16 * lane - at);
      }
      if (lane < score_tile / 8) copy_async_part(norm_chunk, kept, 2 * count - 16 * lane);
    }
  }
};

// Of a stage with the signs of sketches behind it, or without.
template <int D, int bits, bool sketched>
inline constexpr int score_stage_bytes = ScoreStage<D, bits>::bytes +
                                         (sketched ? ScoreStage<D, 1>::bytes : 0);

// A quarter of a key's coordinates in lane (g, t): word t of each plane (D = 64: a half of word t mod 2).
template <int D, int bits>
struct IntegerKey {
  static constexpr int steps = D / 32;
  static constexpr int words = D / 32;

  static __device__ constexpr int coordinate_of(int t, int s, int i, int j) {
    return D == 128 ? 32 * t + 16 * i + 4 * j + s : 32 * (t % 2) + 16 * (t / 2) + 4 * j + 2 * s + i;
  }

  std::uint32_t word[4];  // nibbles (nibbles.cuh)

  // row: the key's planes, 4-byte aligned in shared memory.
  __device__ __forceinline__ void load(const std::uint8_t* row, int t) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      word[j] = j < bits ? reinterpret_cast<const std::uint32_t*>(row + j * (D / 8))[t % words] : 0U;
      if (D == 64 && j < bits) word[j] >>= 16 * (t / 2);
    }
    if constexpr (bits == 4) fold_signs<4>(word);
    exchange_nibbles(word);
  }
  // Of coordinates (s, i, 0 .. 3), in the low half.
  __device__ __forceinline__ std::uint32_t nibbles_of(int s, int i) const {
    return D == 128 ? word[s] >> (16 * i) : word[2 * s + i];
  }
  // Both bytes of the centroids of coordinates (s, i, 0 .. 3).
  __device__ __forceinline__ void look_up(const IntegerCentroids& table, int s, int i, std::uint32_t& high,
                                          std::uint32_t& low) const {
    const std::uint32_t own = nibbles_of(s, i);
    const std::uint32_t nibbles = bits == 4 ? own & 0x7777U : own;
    low = permute_bytes(table.low_bytes[0], table.low_bytes[1], nibbles);
    high = permute_bytes(table.high_bytes[0], table.high_bytes[1], nibbles);
    if constexpr (bits == 4) {
      const std::uint32_t inverted = permute_bytes(0xFF00U, 0U, own >> 3 & 0x1111U);
      low ^= inverted;
      high ^= inverted;
    }
  }
};

// Queries as right operands: columns 2 i and 2 i + 1 are the high and the low bytes of query i.
template <int steps, int blocks>
struct QueryColumns {
  std::uint32_t operand[blocks][steps][2];
  float unit[blocks];       // of query t of each block, which lane (g, t) gets sums of
  int half_of_sum[blocks];  // of that query's integers

  template <typename Place>
  __device__ __forceinline__ void load(const float* queries, int dim, int count, const Place& coordinate_of) {
    const int lane = static_cast<int>(threadIdx.x % warp_size), g = lane / 4;
#pragma unroll
    for (int b = 0; b < blocks; ++b) {
      const int query = block_queries * b + g / 2;
      IntegerQueries<steps> own;
      own.load(query < count ? queries + query * dim : nullptr, coordinate_of);
#pragma unroll
      for (int s = 0; s < steps; ++s) {
#pragma unroll
        for (int i = 0; i < 2; ++i)
          operand[b][s][i] = g % 2 == 0 ? own.operand[s][2 * i] : own.operand[s][2 * i + 1];
      }
      const int holder = 8 * (lane % 4);
      unit[b] = __shfl_sync(0xFFFFFFFFU, own.unit, holder);
      half_of_sum[b] = __shfl_sync(0xFFFFFFFFU, own.sum, holder) >> 1;
    }
  }
};

// Without a branch, which would keep the work on different keys from overlapping.
__device__ __forceinline__ void store_if(bool condition, float* to, float value) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %2, 0;\n@p st.global.f32 [%0], %1;\n}\n" ::"l"(to),
               "f"(value), "r"(static_cast<int>(condition))
               : "memory");
}

// Integer sums of sixteen keys, g and g + 8 of them in this lane, and up to eight queries.
template <int D, int bits, int blocks>
struct KeySums {
  using Key = IntegerKey<D, bits>;

  int high[blocks][4], low[blocks][4];

  // rows: the first key's planes in shared memory.
  __device__ __forceinline__ KeySums(const IntegerCentroids& centroids,
                                     const QueryColumns<D / 32, blocks>& query, const std::uint8_t* rows,
                                     int g, int t) {
    Key key[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) key[r].load(rows + (8 * r + g) * ScoreStage<D, bits>::pitch, t);
#pragma unroll
    for (int b = 0; b < blocks; ++b) {
      // Centroids are n + 1/2.
#pragma unroll
      for (int i = 0; i < 4; ++i) high[b][i] = 0, low[b][i] = i % 2 == 0 ? 0 : query.half_of_sum[b];
    }
#pragma unroll
    for (int s = 0; s < Key::steps; ++s) {
      std::uint32_t upper[4], lower[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) key[i % 2].look_up(centroids, s, i / 2, upper[i], lower[i]);
#pragma unroll
      for (int b = 0; b < blocks; ++b) {
        multiply_bytes<true, true>(high[b], upper, query.operand[b][s][0], query.operand[b][s][1]);
        multiply_bytes<false, true>(low[b], lower, query.operand[b][s][0], query.operand[b][s][1]);
      }
    }
  }
  // Of key g + 8 r and query t of a block.
  __device__ __forceinline__ float of(int b, int r) const {
    const int* const upper = high[b] + 2 * r;
    const int* const lower = low[b] + 2 * r;
    // All of lower weight together stay below 2^31.
    const int rest = 256 * (upper[1] + lower[0]) + lower[1];
    return fmaf(65536.0F, static_cast<float>(upper[0]), static_cast<float>(rest));
  }
};

// The same with signs, which are bytes 1 and -1: the second array of codes.
template <int D, int blocks>
struct SignSums {
  int sums[blocks][4];

  __device__ __forceinline__ SignSums(const QueryColumns<D / 32, blocks>& query, const std::uint8_t* rows,
                                      int g, int t) {
    IntegerKey<D, 1> key[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) key[r].load(rows + (8 * r + g) * ScoreStage<D, 1>::pitch, t);
#pragma unroll
    for (int b = 0; b < blocks; ++b) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[b][i] = 0;
    }
#pragma unroll
    for (int s = 0; s < D / 32; ++s) {
      std::uint32_t signs[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) signs[i] = permute_bytes(0xFF01U, 0U, key[i % 2].nibbles_of(s, i / 2));
#pragma unroll
      for (int b = 0; b < blocks; ++b)
        multiply_bytes<true, true>(sums[b], signs, query.operand[b][s][0], query.operand[b][s][1]);
    }
  }
  __device__ __forceinline__ float of(int b, int r) const {
    return static_cast<float>(256 * sums[b][2 * r] + sums[b][2 * r + 1]);
  }
};

template <int D, int bits, int blocks, bool sketched>
__global__ void __launch_bounds__(score_warps* warp_size, (blocks == 1 ? 5 : 4) - (sketched ? 1 : 0))
    score_kernel(const __grid_constant__ IntegerCentroids centroids, const float* queries, int count_queries,
                 const std::uint8_t* codes, const __half* norms, std::int64_t n,
                 const __grid_constant__ SketchScores sketch, float* scores) {
  using Stage = ScoreStage<D, bits>;
  using Signs = ScoreStage<D, 1>;
  constexpr int stage_bytes = score_stage_bytes<D, bits, sketched>;
  extern __shared__ uint4 shared_words[];
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int g = lane / 4, t = lane % 4;
  std::uint8_t* const own =
      reinterpret_cast<std::uint8_t*>(shared_words) + warp * (score_stages * stage_bytes);
  const std::int64_t tiles = (n + score_tile - 1) / score_tile;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * score_warps;
  const std::int64_t start = static_cast<std::int64_t>(blockIdx.x) * score_warps + warp;
  const auto fetch = [&](std::int64_t tile, int stage) {
    if (tile < tiles) {
      std::uint8_t* const to = own + stage * stage_bytes;
      const std::int64_t first = tile * score_tile;
      const int count = static_cast<int>(min(static_cast<std::int64_t>(score_tile), n - first));
      Stage::fetch(to, codes, norms, first, count);
      if constexpr (sketched) Signs::fetch(to + Stage::bytes, sketch.signs, sketch.norms, first, count);
    }
    commit_copies();  // an empty group, at the end, keeps the count of groups in step
  };
#pragma unroll
  for (int i = 0; i < score_stages - 1; ++i) fetch(start + i * stride, i);

  // Queries come from the kernel before, codes do not.
  asm volatile("griddepcontrol.wait;" ::: "memory");
  const auto coordinate_of = [&](int s, int i, int k) {
    return IntegerKey<D, bits>::coordinate_of(t, s, i, k);
  };
  QueryColumns<D / 32, blocks> query, sketched_query;
  query.load(queries, D, count_queries, coordinate_of);
  if constexpr (sketched) sketched_query.load(sketch.queries, D, count_queries, coordinate_of);
#pragma unroll
  for (int b = 0; b < blocks; ++b) {
    query.unit[b] *= centroids.unit;
    if constexpr (sketched) sketched_query.unit[b] *= sketch.factor;
  }

  int stage = 0;
  for (std::int64_t tile = start; tile < tiles; tile += stride) {
    fetch(tile + (score_stages - 1) * stride, stage == 0 ? score_stages - 1 : stage - 1);
    wait_for_copies<score_stages - 1>();
    __syncwarp();
    const std::uint8_t* const rows = own + stage * stage_bytes;
    const auto* const kept = reinterpret_cast<const __half*>(rows + Stage::norm_offset);
    const std::uint8_t* const signs = rows + Stage::bytes;
    const auto* const residuals = reinterpret_cast<const __half*>(signs + Signs::norm_offset);
    float* const out = scores + t * n + tile * score_tile + g;
    const int left = static_cast<int>(min(n - tile * score_tile, std::int64_t{score_tile})) - g;
#pragma unroll
    for (int j = 0; j < score_tile / 16; ++j) {
      const KeySums<D, bits, blocks> sums(centroids, query, rows + 16 * j * Stage::pitch, g, t);
      float value[blocks][2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float norm = __half2float(kept[16 * j + 8 * r + g]);
#pragma unroll
        for (int b = 0; b < blocks; ++b) value[b][r] = sums.of(b, r) * (norm * query.unit[b]);
      }
      if constexpr (sketched) {
        const SignSums<D, blocks> corrections(sketched_query, signs + 16 * j * Signs::pitch, g, t);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const float norm = __half2float(residuals[16 * j + 8 * r + g]);
#pragma unroll
          for (int b = 0; b < blocks; ++b)
            value[b][r] = fmaf(corrections.of(b, r), norm * sketched_query.unit[b], value[b][r]);
        }
      }
#pragma unroll
      for (int r = 0; r < 2; ++r) {
#pragma unroll
        for (int b = 0; b < blocks; ++b) {
          const bool asked = block_queries * b + t < count_queries && 16 * j + 8 * r < left;
          store_if(asked, out + b * block_queries * n + 16 * j + 8 * r, value[b][r]);
        }
      }
    }
    __syncwarp();
    stage = stage + 1 == score_stages ? 0 : stage + 1;
  }
}

template <int D, int bits, bool sketched>
void launch(cudaStream_t stream, const IntegerCentroids& centroids, const float* queries, std::int64_t m,
            const std::uint8_t* codes, const std::uint8_t* norms, std::int64_t n, const SketchScores& sketch,
            float* scores) {
  constexpr std::size_t bytes =
      static_cast<std::size_t>(score_warps) * score_stages * score_stage_bytes<D, bits, sketched>;
  const auto run = [&](auto kernel, std::int64_t first, std::int64_t count) {
    const std::int64_t resident = resident_blocks("score", kernel, score_warps * warp_size, bytes);
    const std::int64_t needed = (n + score_warps * score_tile - 1) / (score_warps * score_tile);
    // It begins while the rotation of the queries ends.
    cudaLaunchAttribute attribute;
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(needed < resident ? needed : resident));
    config.blockDim = dim3(score_warps * warp_size);
    config.dynamicSmemBytes = bytes;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = first == 0 ? 1 : 0;
    SketchScores own = sketch;
    if constexpr (sketched) own.queries += first * D;
    check(cudaLaunchKernelEx(&config, kernel, centroids, queries + first * D, static_cast<int>(count), codes,
                             reinterpret_cast<const __half*>(norms), n, own, scores + first * n),
          "launch of score");
  };
  constexpr std::int64_t together = most_query_blocks * block_queries;
  for (std::int64_t first = 0; first < m; first += together) {
    const std::int64_t count = m - first < together ? m - first : together;
    if (count <= block_queries) {
      run(score_kernel<D, bits, 1, sketched>, first, count);
    } else {
      run(score_kernel<D, bits, most_query_blocks, sketched>, first, count);
    }
  }
}

}  // namespace

bool is_symmetric(const Codebook& codebook) {
  const auto mirrored = [](const std::vector<float>& values) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (values[i] != -values[values.size() - 1 - i]) return false;
    }
    return true;
  };
  return mirrored(codebook.boundaries) && mirrored(codebook.centroids);
}

bool has_plane_scores(const ScalarCodec& codec) {
  const int bits = codec.codebook().bits();
  return bits <= 4 && is_symmetric(codec.codebook()) && codec.norm_type() == NormType::fp16 &&
         codec.scale_rule() != ScaleRule::none && codec.rotation().output_dim() == codec.dim() &&
         (codec.dim() == 64 || codec.dim() == 128);
}

HalfCentroids half_centroids(const Codebook& codebook) {
  // Units tried: 1 to 2, in steps far finer than the spacing of fp16.
  constexpr int units = 1 << 14;
  const auto in_half = [](float value) { return half_to_float(float_to_half(value)); };
  float best_unit = 1.0F, least_error = INFINITY;
  for (int i = 0; i < units; ++i) {
    const float unit = 1.0F + static_cast<float>(i) / units;
    float error = 0.0F;
    for (const float centroid : codebook.centroids) {
      error = std::max(error, std::fabs(in_half(centroid / unit) * unit / centroid - 1.0F));
    }
    if (error < least_error) {
      least_error = error;
      best_unit = unit;
    }
  }
  const std::size_t first = codebook.bits() == 4 ? codebook.centroids.size() / 2 : 0;
  HalfCentroids table{{}, {}, best_unit};
  for (std::size_t i = first; i < codebook.centroids.size(); ++i) {
    const std::uint32_t half = float_to_half(codebook.centroids[i] / best_unit);
    const std::size_t entry = i - first;
    table.low_bytes[entry / 4] |= (half & 0xFFU) << (8 * (entry % 4));
    table.high_bytes[entry / 4] |= (half >> 8) << (8 * (entry % 4));
  }
  return table;
}

IntegerCentroids integer_centroids(const Codebook& codebook) {
  constexpr float largest = 32767.5F;  // of n + 1/2
  IntegerCentroids table{{}, {}, codebook.centroids.back() / largest};
  const std::size_t first = codebook.bits() == 4 ? codebook.centroids.size() / 2 : 0;
  for (std::size_t i = first; i < codebook.centroids.size(); ++i) {
    const auto n = static_cast<std::uint32_t>(std::lround(codebook.centroids[i] / table.unit - 0.5F));
    const std::size_t entry = i - first;
    table.low_bytes[entry / 4] |= (n & 0xFFU) << (8 * (entry % 4));
    table.high_bytes[entry / 4] |= (n >> 8 & 0xFFU) << (8 * (entry % 4));
  }
  return table;
}

void score_planes(cudaStream_t stream, int dim, int bits, const IntegerCentroids& centroids,
                  const float* rotated_queries, std::int64_t m, const std::uint8_t* codes,
                  const std::uint8_t* norms, std::int64_t n, const SketchScores& sketch, float* scores) {
  if (n == 0 || m == 0) return;
  const auto run = [&]<int D, int width>() {
    const auto kernel = sketch.signs != nullptr ? launch<D, width, true> : launch<D, width, false>;
    kernel(stream, centroids, rotated_queries, m, codes, norms, n, sketch, scores);
  };
  const auto run_dim = [&]<int D>() {
    switch (bits) {
      case 1:
        return run.template operator()<D, 1>();
      case 2:
        return run.template operator()<D, 2>();
      case 3:
        return run.template operator()<D, 3>();
      default:
        return run.template operator()<D, 4>();
    }
  };
  dim == 64 ? run_dim.template operator()<64>() : run_dim.template operator()<128>();
}

}  // namespace rotorquant::device
