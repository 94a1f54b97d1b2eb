#include <cmath>
#include <cstring>

#include "rotorquant/device/byte_products.cuh"
#include "rotorquant/device/integer_queries.cuh"
#include "rotorquant/device/launch.cuh"
#include "rotorquant/device/trellis_fragments.cuh"
#include "rotorquant/device/trellis_scores.cuh"
#include "rotorquant/device/warp_tile.cuh"

namespace rotorquant::device {
namespace {

constexpr int score_warps = 8;
constexpr int score_threads = score_warps * warp_size;
constexpr int score_tile = 64;  // keys a warp takes at a time
constexpr int score_stages = 3;
constexpr int queries_together = 8;
constexpr float levels_per_unit = 32.0F;

// Levels of coordinates t (low byte) and t + 1.
template <int bits>
struct BytePairs {
  std::uint16_t pair[trellis_pairs<bits>];
  std::uint16_t wide[2 * trellis_pairs<bits>];
  float scale[256];  // of a code, over levels_per_unit
};

template <int bits>
std::vector<std::uint8_t> byte_pairs(const TrellisValueFormat& format) {
  BytePairs<bits> tables{};
  const TrellisCodebook& codebook = format.code().codebook();
  const auto level = [&](int width, int u, int r) {
    const float value = codebook.levels(width).values()[static_cast<std::size_t>(u << 6 | r)];
    return static_cast<unsigned>(static_cast<std::uint8_t>(std::lround(levels_per_unit * value)));
  };
  for (const bool wide : {false, true}) {
    for_each_pair<bits>(wide, [&](int i, int u, int r, int next_u, int next_r) {
      (wide ? tables.wide : tables.pair)[i] =
          static_cast<std::uint16_t>(level(wide ? bits + 1 : bits, u, r) | level(bits, next_u, next_r) << 8);
    });
  }
  for (std::size_t c = 0; c < 256; ++c) tables.scale[c] = format.scales()[c] / levels_per_unit;
  std::vector<std::uint8_t> bytes(sizeof tables);
  std::memcpy(bytes.data(), &tables, sizeof tables);
  return bytes;
}

// Levels of coordinates 4 i .. 4 i + 3 of run h.
template <int D, int bits>
__device__ __forceinline__ std::uint32_t look_up_four(const TrellisQuarters<D, bits>& keys,
                                                      const BytePairs<bits>& tables, int h, int i) {
  std::uint32_t pair[2];
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const int c = 4 * i + 2 * j;
    const int wide = keys.wide(h, c);
    pair[j] = half_word(reinterpret_cast<const std::uint8_t*>(wide >= 0 ? tables.wide : tables.pair) +
                        keys.template offset<1, 16>(h, c, wide));
  }
  return join_halves(pair[0], pair[1]);
}

template <int D, int bits>
struct ScoreMemory {
  static constexpr int row_bytes = trellis_row_bytes<D, bits>;
  static constexpr int stage_bytes = score_tile * row_bytes;
  static constexpr int warp_bytes = score_stages * stage_bytes + score_tile * 4;
  static_assert(stage_bytes % 16 == 0 && sizeof(BytePairs<bits>) % 16 == 0);
  static constexpr std::size_t bytes =
      sizeof(BytePairs<bits>) + static_cast<std::size_t>(score_warps * warp_bytes);

  // One group of background copies of the keys from `first` on; beyond the last one zeros.
  static __device__ __forceinline__ void fetch(std::uint8_t* shared, const std::uint8_t* codes,
                                               std::int64_t first, std::int64_t n) {
    fetch_rows<stage_bytes>(shared, codes + first * row_bytes, (n - first) * row_bytes);
    commit_copies();
  }
};

template <int D, int bits>
__global__ void __launch_bounds__(score_threads, 3)
    trellis_score_kernel(const BytePairs<bits>* given_tables, const float* queries, int count_queries,
                         const std::uint8_t* codes, std::int64_t n, float* scores) {
  using Memory = ScoreMemory<D, bits>;
  using Keys = TrellisQuarters<D, bits>;
  extern __shared__ uint4 shared_words[];
  const auto& tables = *reinterpret_cast<const BytePairs<bits>*>(shared_words);
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int g = lane / 4, t = lane % 4;
  std::uint8_t* const own =
      reinterpret_cast<std::uint8_t*>(shared_words) + sizeof(BytePairs<bits>) + warp * Memory::warp_bytes;
  auto* const scales = reinterpret_cast<float*>(own + score_stages * Memory::stage_bytes);
  const std::int64_t tiles = (n + score_tile - 1) / score_tile;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * score_warps;
  const std::int64_t start = static_cast<std::int64_t>(blockIdx.x) * score_warps + warp;
  const auto fetch = [&](std::int64_t tile, int stage) {
    if (tile < tiles) {
      Memory::fetch(own + stage * Memory::stage_bytes, codes, tile * score_tile, n);
    } else {
      commit_copies();  // an empty group keeps the count of groups in step
    }
  };
#pragma unroll
  for (int i = 0; i < score_stages - 1; ++i) fetch(start + i * stride, i);
  for (int i = static_cast<int>(threadIdx.x); i < static_cast<int>(sizeof(BytePairs<bits>) / 16);
       i += score_threads) {
    shared_words[i] = __ldg(reinterpret_cast<const uint4*>(given_tables) + i);
  }
  __syncthreads();

  // Lane (g, t): query g, coordinates of quarter t.
  IntegerQueries<D / 32> query;
  query.load(g < count_queries ? queries + g * D : nullptr,
             [&](int s, int i, int j) { return D / 4 * t + 8 * s + 4 * i + j; });

  int stage = 0;
  for (std::int64_t tile = start; tile < tiles; tile += stride) {
    fetch(tile + (score_stages - 1) * stride, stage == 0 ? score_stages - 1 : stage - 1);
    wait_for_copies<score_stages - 1>();
    __syncwarp();
    const std::uint8_t* const rows = own + stage * Memory::stage_bytes;
#pragma unroll
    for (int i = 0; i < score_tile; i += warp_size) {
      scales[i + lane] = tables.scale[rows[(i + lane) * Memory::row_bytes]];
    }
    __syncwarp();
#pragma unroll 1
    for (int first = 0; first < score_tile; first += 8 * Keys::keys) {
      Keys keys;
      keys.load(rows + (first + g) * Memory::row_bytes, t, true);
#pragma unroll
      for (int k = 0; k < Keys::keys; ++k) {
        int sums[4] = {};
#pragma unroll
        for (int s = 0; s < D / 32; ++s) {
          const int h = D == 64 ? k : s / 2;
          multiply_bytes<true, true>(sums, query.operand[s], look_up_four(keys, tables, h, s % 2 * 2),
                                     look_up_four(keys, tables, h, s % 2 * 2 + 1));
        }
        if (g >= count_queries) continue;
        const int column = first + 8 * k + 2 * t;
        const float2 scale = *reinterpret_cast<const float2*>(scales + column);
        const std::int64_t key = tile * score_tile + column;
        float* const out = scores + g * n + key;
        const float left = static_cast<float>(256 * sums[0] + sums[2]) * query.unit * scale.x;
        const float right = static_cast<float>(256 * sums[1] + sums[3]) * query.unit * scale.y;
        if (key + 1 < n && (g * n) % 2 == 0) {
          *reinterpret_cast<float2*>(out) = make_float2(left, right);
        } else {
          if (key < n) out[0] = left;
          if (key + 1 < n) out[1] = right;
        }
      }
    }
    __syncwarp();
    stage = stage + 1 == score_stages ? 0 : stage + 1;
  }
}

template <int D, int bits>
void launch(cudaStream_t stream, const std::uint8_t* tables, const float* queries, std::int64_t m,
            const std::uint8_t* codes, std::int64_t n, float* scores) {
  constexpr std::size_t bytes = ScoreMemory<D, bits>::bytes;
  const std::int64_t resident = resident_blocks("score", trellis_score_kernel<D, bits>, score_threads, bytes);
  const std::int64_t needed = (n + score_warps * score_tile - 1) / (score_warps * score_tile);
  for (std::int64_t first = 0; first < m; first += queries_together) {
    const auto count = static_cast<int>(m - first < queries_together ? m - first : queries_together);
    trellis_score_kernel<D, bits>
        <<<static_cast<unsigned>(needed < resident ? needed : resident), score_threads, bytes, stream>>>(
            reinterpret_cast<const BytePairs<bits>*>(tables), queries + first * D, count, codes, n,
            scores + first * n);
    check_launch("score");
  }
}

}  // namespace

bool has_trellis_scores(const TrellisValueFormat& format) {
  return format.code().memory() == 5 && format.bits() >= 2 && format.bits() <= 4 &&
         (format.dim() == 64 || format.dim() == 128);
}

TrellisScores::TrellisScores(const TrellisValueFormat& format)
    : dim_(format.dim()),
      bits_(format.bits()),
      tables_(bits_ == 2   ? byte_pairs<2>(format)
              : bits_ == 3 ? byte_pairs<3>(format)
                           : byte_pairs<4>(format)) {}

void TrellisScores::score(cudaStream_t stream, const float* rotated_queries, std::int64_t m,
                          const std::uint8_t* codes, std::int64_t n, float* scores) const {
  if (n == 0 || m == 0) return;
  const auto run = [&](auto kernel) { kernel(stream, tables_.data(), rotated_queries, m, codes, n, scores); };
  switch (bits_) {
    case 2:
      return dim_ == 64 ? run(launch<64, 2>) : run(launch<128, 2>);
    case 3:
      return dim_ == 64 ? run(launch<64, 3>) : run(launch<128, 3>);
    default:
      return dim_ == 64 ? run(launch<64, 4>) : run(launch<128, 4>);
  }
}

}  // namespace rotorquant::device
