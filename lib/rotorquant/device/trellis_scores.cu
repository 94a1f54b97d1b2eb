#include <cmath>
#include <cstring>

#include "rotorquant/device/launch.cuh"
#include "rotorquant/device/register_planes.cuh"
#include "rotorquant/device/trellis_scores.cuh"

namespace rotorquant::device {
namespace {

constexpr int score_warps = 8;
constexpr int score_threads = score_warps * warp_size;
constexpr int score_tile = 64;  // keys a warp takes at a time
constexpr int score_stages = 3;
constexpr int queries_together = 8;
constexpr int window_bits = 7;
constexpr float levels_per_unit = 32.0F;
// Two bytes of a query: 256 high + low, both in -128 .. 127.
constexpr float largest_query = 127.0F * 256.0F + 127.0F;

// Levels of coordinates t (low byte) and t + 1; index = window | (bits t and t + 1 of plane k) << (7 + 2 (k - 1)), in `wide`,
// where t has one bit more, | that bit << (7 + 2 (bits - 1)).
template <int bits>
struct BytePairs {
  static constexpr int count = 1 << (window_bits + 2 * (bits - 1));
  std::uint16_t pair[count];
  std::uint16_t wide[2 * count];
  float scale[256];  // of a code, over levels_per_unit
};

template <int bits>
std::vector<std::uint8_t> byte_pairs(const TrellisValueFormat& format) {
  BytePairs<bits> tables{};
  const TrellisCodebook& codebook = format.code().codebook();
  const auto level = [&](int width, std::size_t u, std::size_t r) {
    return static_cast<std::uint32_t>(static_cast<std::uint8_t>(
        std::lround(levels_per_unit * codebook.levels(width).values()[u << 6 | r])));
  };
  for (std::size_t i = 0; i < 2 * BytePairs<bits>::count; ++i) {
    const std::size_t window = i % (1U << window_bits);
    std::size_t u[2] = {(i / BytePairs<bits>::count) << (bits - 1), 0};
    for (int k = 0; k < bits - 1; ++k) {
      u[0] |= ((i >> (window_bits + 2 * k)) & 1U) << k;
      u[1] |= ((i >> (window_bits + 2 * k + 1)) & 1U) << k;
    }
    const std::uint32_t second = level(bits, u[1], window & 63U);
    tables.wide[i] = static_cast<std::uint16_t>(level(bits + 1, u[0], window >> 1) | second << 8);
    if (i < BytePairs<bits>::count)
      tables.pair[i] = static_cast<std::uint16_t>(level(bits, u[0], window >> 1) | second << 8);
  }
  for (std::size_t c = 0; c < 256; ++c) tables.scale[c] = format.scales()[c] / levels_per_unit;
  std::vector<std::uint8_t> bytes(sizeof tables);
  std::memcpy(bytes.data(), &tables, sizeof tables);
  return bytes;
}

// sums += a b; a: row-major 16x32 int8, b: column-major 32x8 int8, sums: 16x8 int32, each spread over the warp.
__device__ __forceinline__ void multiply_add(int (&sums)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                             std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ std::uint32_t shift_bits(std::uint32_t word, int from, int to) {
  return from >= to ? word >> (from - to) : word << (to - from);
}

// Two halves of 16 consecutive coordinates of a lane t in 0 .. 3, each half of quarter t of a key: D = 64: of two keys, eight
// rows apart; D = 128: of one.
template <int D, int bits>
struct KeyHalves {
  static constexpr int row_bytes = trellis_header_bytes + bits * D / 8;
  static constexpr int keys = D == 64 ? 2 : 1;

  std::uint32_t
      string[2];  // plane 0 of a half in bits 0 .. 15, reversed; above them what comes before the half
  std::uint32_t plane[bits - 1];  // the others: half 0 below, half 1 above
  std::uint32_t extra;            // bits 0, 1: of the first key's quarter; 16, 17: of the second's

  static __device__ __forceinline__ std::uint32_t half_word(const std::uint8_t* at) {
    return *reinterpret_cast<const std::uint16_t*>(at);
  }

  // row: of the first key.
  __device__ __forceinline__ void load(const std::uint8_t* row, int t) {
    constexpr int bytes = D / 8;  // of a plane
    const std::uint8_t* const planes = row + trellis_header_bytes;
    if constexpr (D == 64) {
      const std::uint8_t* const second = planes + 8 * row_bytes;
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const std::uint8_t* const own = h == 0 ? planes : second;
        string[h] = permute_bytes(half_word(own + 6 - 2 * t), half_word(own + (8 - 2 * t) % bytes), 0x5410);
      }
#pragma unroll
      for (int k = 0; k < bits - 1; ++k) {
        const int at = (k + 1) * bytes + 2 * t;
        plane[k] = permute_bytes(half_word(planes + at), half_word(second + at), 0x5410);
      }
      extra = permute_bytes(row[1], row[8 * row_bytes + 1], 0x5410) >> (2 * t);
    } else {
      const std::uint32_t last = half_word(planes + 12 - 4 * t), middle = half_word(planes + 14 - 4 * t),
                          above = half_word(planes + (16 - 4 * t) % bytes);
      string[0] = permute_bytes(middle, above, 0x5410);
      string[1] = permute_bytes(last, middle, 0x5410);
#pragma unroll
      for (int k = 0; k < bits - 1; ++k) {
        const int at = (k + 1) * bytes + 4 * t;
        plane[k] = permute_bytes(half_word(planes + at), half_word(planes + at + 2), 0x5410);
      }
      extra = static_cast<std::uint32_t>(row[1]) >> (2 * t);
    }
    if constexpr (bits > 2) {
      // Planes 1 and 2: nibbles of the coordinates t and t + 1, t mod 4 = 0 in the first and 2 in the second.
      constexpr std::uint32_t low = 0x33333333U;
      const std::uint32_t first = plane[0], second = plane[1];
      plane[0] = (first & low) | ((second << 2) & ~low);
      plane[1] = ((first >> 2) & low) | (second & ~low);
    }
  }

  // Levels of the coordinates c and c + 1, c even, of half h.
  __device__ __forceinline__ std::uint32_t pair(const BytePairs<bits>& tables, int h, int c) const {
    std::uint32_t offset = shift_bits(string[h], 14 - c, 1) & 0xFEU;
    if constexpr (bits == 2) {
      offset |= shift_bits(plane[0], 16 * h + c, 8) & 0x300U;
    } else {
      offset |= shift_bits(plane[c / 2 % 2], 16 * h + c / 4 * 4, 8) & 0xF00U;
    }
    if constexpr (bits == 4) offset |= shift_bits(plane[2], 16 * h + c, 12) & 0x3000U;
    const bool wide = D == 64 ? c % 8 == 4 : c == 4;
    if (wide) {
      const int from = D == 64 ? 16 * h + c / 8 : h;
      offset |= shift_bits(extra, from, 6 + 2 * bits) & (1U << (6 + 2 * bits));
    }
    return *reinterpret_cast<const std::uint16_t*>(
        reinterpret_cast<const std::uint8_t*>(wide ? tables.wide : tables.pair) + offset);
  }
  // Levels of the coordinates 4 i .. 4 i + 3 of half h.
  __device__ __forceinline__ std::uint32_t four(const BytePairs<bits>& tables, int h, int i) const {
    return permute_bytes(pair(tables, h, 4 * i), pair(tables, h, 4 * i + 2), 0x5410);
  }
};

template <int D, int bits>
struct ScoreMemory {
  static constexpr int row_bytes = KeyHalves<D, bits>::row_bytes;
  static constexpr int stage_bytes = score_tile * row_bytes;
  static constexpr int warp_bytes = score_stages * stage_bytes + score_tile * 4;
  static_assert(stage_bytes % 16 == 0 && sizeof(BytePairs<bits>) % 16 == 0);
  static constexpr std::size_t bytes =
      sizeof(BytePairs<bits>) + static_cast<std::size_t>(score_warps * warp_bytes);

  // One group of background copies of the keys from `first` on; beyond the last one zeros.
  static __device__ __forceinline__ void fetch(std::uint8_t* shared, const std::uint8_t* codes,
                                               std::int64_t first, std::int64_t n) {
    const std::uint8_t* const from = codes + first * row_bytes;
    const std::int64_t there = (n - first) * row_bytes;
#pragma unroll
    for (int j = 0; j < stage_bytes; j += 16 * warp_size) {
      const int at = j + 16 * static_cast<int>(threadIdx.x % warp_size);
      if (at >= stage_bytes) break;
      const std::int64_t left = there - at;
      const int read = left >= 16 ? 16 : left > 0 ? static_cast<int>(left) : 0;
      const auto address = static_cast<unsigned>(__cvta_generic_to_shared(shared + at));
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address),
                   "l"(read > 0 ? from + at : codes), "r"(read)
                   : "memory");
    }
    commit_copies();
  }
};

template <int D, int bits>
__global__ void __launch_bounds__(score_threads, 3)
    trellis_score_kernel(const BytePairs<bits>* given_tables, const float* queries, int count_queries,
                         const std::uint8_t* codes, std::int64_t n, float* scores) {
  using Memory = ScoreMemory<D, bits>;
  using Keys = KeyHalves<D, bits>;
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

  // Lane (g, t): query g, coordinates of quarter t; high bytes in row g of the operand and low ones in row g + 8.
  const float* const query = queries + (g < count_queries ? g * D : 0) + D / 4 * t;
  float largest = 0.0F;
  for (int c = 0; c < D / 4; ++c) largest = fmaxf(largest, fabsf(query[c]));
  largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFU, largest, 1));
  largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFU, largest, 2));
  const float unit = largest > 0.0F ? largest / largest_query : 1.0F;
  std::uint32_t operand[D / 32][4];
#pragma unroll
  for (int s = 0; s < D / 32; ++s) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      std::uint32_t high = 0, low = 0;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int value = g < count_queries ? __float2int_rn(query[8 * s + 4 * i + j] / unit) : 0;
        const int upper = (value + 128) >> 8;
        high |= static_cast<std::uint32_t>(upper & 0xFF) << (8 * j);
        low |= static_cast<std::uint32_t>((value - 256 * upper) & 0xFF) << (8 * j);
      }
      operand[s][2 * i] = high;
      operand[s][2 * i + 1] = low;
    }
  }

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
      keys.load(rows + (first + g) * Memory::row_bytes, t);
#pragma unroll
      for (int k = 0; k < Keys::keys; ++k) {
        int sums[4] = {};
#pragma unroll
        for (int s = 0; s < D / 32; ++s) {
          const int h = D == 64 ? k : s / 2;
          multiply_add(sums, operand[s], keys.four(tables, h, s % 2 * 2),
                       keys.four(tables, h, s % 2 * 2 + 1));
        }
        if (g >= count_queries) continue;
        const int column = first + 8 * k + 2 * t;
        const float2 scale = *reinterpret_cast<const float2*>(scales + column);
        const std::int64_t key = tile * score_tile + column;
        float* const out = scores + g * n + key;
        const float left = static_cast<float>(256 * sums[0] + sums[2]) * unit * scale.x;
        const float right = static_cast<float>(256 * sums[1] + sums[3]) * unit * scale.y;
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
