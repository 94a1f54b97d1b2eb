#include "rotorquant/core/half.hpp"
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
constexpr int queries_together = 8;

template <int D, int bits>
struct ScoreStage {
  static constexpr int row_bytes = bits * D / 8;
  static constexpr int unit = D / 8;
  // An odd number of 16-byte units apart: a warp's 32 words of eight keys lie in 32 banks.
  static constexpr int pitch = D == 128 ? 16 * (bits | 1) : row_bytes;
  static constexpr int bytes = score_tile * (pitch + 2);

  static __device__ __forceinline__ void fetch(std::uint8_t* shared, const std::uint8_t* codes,
                                               const __half* norms, std::int64_t first, int count) {
    const int lane = static_cast<int>(threadIdx.x % warp_size);
    const std::uint8_t* const from = codes + first * row_bytes;
#pragma unroll
    for (int j = 0; j < score_tile * bits / warp_size; ++j) {
      const int i = lane + warp_size * j;
      const bool valid = i / bits < count;
      const auto address =
          static_cast<unsigned>(__cvta_generic_to_shared(shared + i / bits * pitch + i % bits * unit));
      asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(address),
                   "l"(valid ? from + static_cast<std::int64_t>(unit) * i : from), "n"(unit),
                   "r"(valid ? unit : 0)
                   : "memory");
    }
    auto* const kept = reinterpret_cast<__half*>(shared + score_tile * pitch);
    if (count == score_tile) {
      const auto address = static_cast<unsigned>(__cvta_generic_to_shared(kept + 2 * lane));
      asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(address), "l"(norms + first + 2 * lane)
                   : "memory");
    } else {
      for (int i = lane; i < score_tile; i += warp_size)
        kept[i] = i < count ? norms[first + i] : __half(0.0F);
    }
    commit_copies();
  }
};

// Key g's quarter of coordinates in lane (g, t) as operands: word t of each plane (D = 64: a half of word t mod 2).
template <int D, int bits>
struct IntegerKeys {
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
  __device__ __forceinline__ void multiply(const IntegerCentroids& table, const IntegerQueries<steps>& query,
                                           int (&high_sums)[4], int (&low_sums)[4]) const {
#pragma unroll
    for (int s = 0; s < steps; ++s) {
      std::uint32_t low[2], high[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const std::uint32_t own = D == 128 ? word[s] >> (16 * i) : word[2 * s + i];
        const std::uint32_t nibbles = bits == 4 ? own & 0x7777U : own;
        low[i] = permute_bytes(table.low_bytes[0], table.low_bytes[1], nibbles);
        high[i] = permute_bytes(table.high_bytes[0], table.high_bytes[1], nibbles);
        if constexpr (bits == 4) {
          const std::uint32_t inverted = permute_bytes(0xFF00U, 0U, own >> 3 & 0x1111U);
          low[i] ^= inverted;
          high[i] ^= inverted;
        }
      }
      multiply_add<true>(high_sums, query.operand[s], high[0], high[1]);
      multiply_add<false>(low_sums, query.operand[s], low[0], low[1]);
    }
  }
};

template <int D, int bits>
__global__ void __launch_bounds__(score_warps* warp_size, 4)
    score_kernel(const __grid_constant__ IntegerCentroids centroids, const float* queries, int count_queries,
                 const std::uint8_t* codes, const __half* norms, std::int64_t n, float* scores) {
  using Stage = ScoreStage<D, bits>;
  extern __shared__ uint4 shared_words[];
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int g = lane / 4, t = lane % 4;
  std::uint8_t* const own =
      reinterpret_cast<std::uint8_t*>(shared_words) + warp * (score_stages * Stage::bytes);
  const std::int64_t tiles = (n + score_tile - 1) / score_tile;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * score_warps;
  const std::int64_t start = static_cast<std::int64_t>(blockIdx.x) * score_warps + warp;
  const auto fetch = [&](std::int64_t tile, int stage) {
    if (tile < tiles) {
      Stage::fetch(own + stage * Stage::bytes, codes, norms, tile * score_tile,
                   static_cast<int>(min(static_cast<std::int64_t>(score_tile), n - tile * score_tile)));
    } else {
      commit_copies();  // an empty group keeps the count of groups in step
    }
  };
#pragma unroll
  for (int i = 0; i < score_stages - 1; ++i) fetch(start + i * stride, i);

  using Keys = IntegerKeys<D, bits>;
  IntegerQueries<Keys::steps> query;
  query.load(g < count_queries ? queries + g * D : nullptr,
             [&](int s, int i, int k) { return Keys::coordinate_of(t, s, i, k); });
  const float unit = query.unit * centroids.unit;
  const float halves = 0.5F * static_cast<float>(query.sum);
  const auto combine = [&](int high, int low) {
    return fmaf(65536.0F, static_cast<float>(high), static_cast<float>(low) + halves) * unit;
  };

  int stage = 0;
  for (std::int64_t tile = start; tile < tiles; tile += stride) {
    fetch(tile + (score_stages - 1) * stride, stage == 0 ? score_stages - 1 : stage - 1);
    wait_for_copies<score_stages - 1>();
    __syncwarp();
    const std::uint8_t* const rows = own + stage * Stage::bytes;
    const auto* const kept = reinterpret_cast<const __half2*>(rows + score_tile * Stage::pitch);
    // The lane's own keys of the tile: 2 t, 2 t + 1 and every eighth on.
    const std::int64_t own_key = tile * score_tile + 2 * t;
    float* const out = scores + g * n + own_key;
    const int left = static_cast<int>(min(n - own_key, std::int64_t{score_tile}));
    const bool pairs = (tile + 1) * score_tile <= n && g * n % 2 == 0;
#pragma unroll 4
    for (int j = 0; j < score_tile / 8; ++j) {
      Keys keys;
      keys.load(rows + (8 * j + g) * Stage::pitch, t);
      int high_sums[4] = {}, low_sums[4] = {};
      keys.multiply(centroids, query, high_sums, low_sums);
      if (g >= count_queries) continue;
      const float2 norm = __half22float2(kept[4 * j + t]);
      // Both sums of lower weight together stay below 2^31.
      const float first = combine(high_sums[0], 256 * (high_sums[2] + low_sums[0]) + low_sums[2]) * norm.x;
      const float second = combine(high_sums[1], 256 * (high_sums[3] + low_sums[1]) + low_sums[3]) * norm.y;
      if (pairs) {
        *reinterpret_cast<float2*>(out + 8 * j) = make_float2(first, second);
      } else {
        if (8 * j < left) out[8 * j] = first;
        if (8 * j + 1 < left) out[8 * j + 1] = second;
      }
    }
    __syncwarp();
    stage = stage + 1 == score_stages ? 0 : stage + 1;
  }
}

template <int D, int bits>
void launch(cudaStream_t stream, const IntegerCentroids& centroids, const float* queries, std::int64_t m,
            const std::uint8_t* codes, const std::uint8_t* norms, std::int64_t n, float* scores) {
  constexpr std::size_t bytes =
      static_cast<std::size_t>(score_warps) * score_stages * ScoreStage<D, bits>::bytes;
  const std::int64_t resident =
      resident_blocks("score", score_kernel<D, bits>, score_warps * warp_size, bytes);
  const std::int64_t needed = (n + score_warps * score_tile - 1) / (score_warps * score_tile);
  for (std::int64_t first = 0; first < m; first += queries_together) {
    const auto count = static_cast<int>(m - first < queries_together ? m - first : queries_together);
    score_kernel<D, bits>
        <<<static_cast<unsigned>(needed < resident ? needed : resident), score_warps * warp_size, bytes,
           stream>>>(centroids, queries + first * D, count, codes, reinterpret_cast<const __half*>(norms), n,
                     scores + first * n);
    check_launch("score");
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
  return bits >= 2 && bits <= 4 && is_symmetric(codec.codebook()) && codec.norm_type() == NormType::fp16 &&
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
                  const std::uint8_t* norms, std::int64_t n, float* scores) {
  if (n == 0 || m == 0) return;
  const auto run = [&](auto kernel) {
    kernel(stream, centroids, rotated_queries, m, codes, norms, n, scores);
  };
  switch (bits) {
    case 2:
      return dim == 64 ? run(launch<64, 2>) : run(launch<128, 2>);
    case 3:
      return dim == 64 ? run(launch<64, 3>) : run(launch<128, 3>);
    default:
      return dim == 64 ? run(launch<64, 4>) : run(launch<128, 4>);
  }
}

}  // namespace rotorquant::device
