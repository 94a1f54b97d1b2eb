#include <cmath>
#include <cstring>
#include <numbers>

#include "rotorquant/core/half.hpp"
#include "rotorquant/device/calibrated_scores.cuh"
#include "rotorquant/device/calibrated_tables.cuh"
#include "rotorquant/device/launch.cuh"
#include "rotorquant/device/plane_fragments.cuh"
#include "rotorquant/device/warp_tile.cuh"

namespace rotorquant::device {
namespace {

constexpr unsigned all_lanes = 0xFFFFFFFFU;
constexpr int tile_keys = 32;
constexpr int most_queries = 8;
// Ranks before the first one, which a register reaches round the circle.
constexpr int wrapped = register_bits - 1;

// A block's shared memory after the head's tables.
template <int D>
struct ScoreLayout {
  static constexpr int warps = D == 64 ? 16 : 12;
  static constexpr int threads = warps * warp_size;
  static constexpr int turn_pitch = D / 2 * 8 + 64;  // bytes between the keys of a tile
  static constexpr int tile_pitch = 2 * tile_keys + 16;
  static constexpr int turn_bytes = tile_keys * turn_pitch;
  static constexpr int query_bytes = most_queries * D * 4;

  int staging, bits, warp, values, total;
  __host__ __device__ ScoreLayout(int code_bytes, int centroids, int value_bytes)
      : staging(tile_keys * code_bytes),
        bits((code_bytes + 3) / 4 * 32 * 4),
        warp(2 * staging + bits + (8 + D) * 4 + 32 * tile_pitch + D / 2 * 8),
        values(HeadLayout<D>::shared_centroids + centroids * HeadLayout<D>::pitch),
        total(values + value_bytes + turn_bytes + query_bytes + warps * warp) {}
};

// Bit i of lane j's word to bit j of lane i's.
__device__ __forceinline__ std::uint32_t transpose_bits(std::uint32_t word) {
  const int lane = static_cast<int>(threadIdx.x % warp_size);
  constexpr std::uint32_t masks[5] = {0x0000FFFFU, 0x00FF00FFU, 0x0F0F0F0FU, 0x33333333U, 0x55555555U};
#pragma unroll
  for (int i = 0; i < 5; ++i) {
    const int step = 16 >> i;
    const std::uint32_t other = __shfl_xor_sync(all_lanes, word, step);
    const bool upper = (lane & step) != 0;
    const std::uint32_t moved = upper ? other >> step : other << step;
    const std::uint32_t kept = upper ? ~masks[i] : masks[i];
    word = (word & kept) | (moved & ~kept);
  }
  return word;
}

// Word i, bit j of each byte to word j, bit i of that byte.
__device__ __forceinline__ void transpose_bytes(std::uint32_t (&words)[8]) {
  constexpr std::uint32_t masks[3] = {0x55555555U, 0x33333333U, 0x0F0F0F0FU};
#pragma unroll
  for (int s = 0; s < 3; ++s) {
    const int step = 1 << s;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if ((i & step) != 0) continue;
      const std::uint32_t changed = ((words[i] >> step) ^ words[i + step]) & masks[s];
      words[i + step] ^= changed;
      words[i] ^= changed << step;
    }
  }
}

__device__ __forceinline__ void load_matrices(std::uint32_t (&words)[4], const void* row) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(address)
               : "memory");
}

__device__ __forceinline__ std::uint32_t to_half2(float first, float second) {
  const __half2 pair = __floats2half2_rn(first, second);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}
__device__ __forceinline__ float2 from_half2(std::uint32_t pair) {
  return __half22float2(*reinterpret_cast<const __half2*>(&pair));
}
__device__ __forceinline__ float2 turn_of(double turns) {
  float2 turn;
  sincospif(static_cast<float>(2.0 * (turns - rint(turns))), &turn.y, &turn.x);
  return turn;
}

struct ScoreArguments {
  const std::uint8_t* heads;
  std::size_t head_bytes;
  int codecs, centroids, value_bytes, code_bytes;
  const int* order;
  const double* turns;
  const float* queries;
  int queries_per_head;
  const std::uint8_t* codes;
  std::int64_t tokens, capacity;
  std::int64_t tokens_per_block;  // a multiple of tile_keys
  float* scores;
};

template <int D>
struct KeyOperand {
  std::uint32_t word[D / 16][2][4];  // of 16 ranks, of 16 keys
};

// Decodes the 32 keys of a tile to operands.
// bits: the codes' bits, each a word of 32 keys. ranks: plane 0 by rank, from rank -8 on. tile: 32 rows of scratch memory.
template <int D>
__device__ __forceinline__ void decode_keys(const CalibratedHead& head, const Place* places,
                                            const std::uint8_t* values, const std::uint32_t* bits,
                                            std::uint32_t* ranks, std::uint8_t* tile,
                                            KeyOperand<D>& operand) {
  constexpr int tile_pitch = ScoreLayout<D>::tile_pitch;
  const int lane = static_cast<int>(threadIdx.x % warp_size);
#pragma unroll
  for (int first = 0; first < D; first += warp_size) {
    const int rank = first + lane;
    const std::uint32_t word = rank < head.used ? bits[places[rank].bit] : 0U;
    ranks[8 + rank] = word;
    if (rank < head.used && rank >= head.used - wrapped) ranks[8 + rank - head.used] = word;
  }
  __syncwarp();
#pragma unroll
  for (int pass = 0; pass < D / warp_size; ++pass) {
    const int rank = pass * warp_size + lane;
    const Place place = places[rank];
    std::uint32_t low[8], high[8] = {};
#pragma unroll
    for (int j = 0; j < register_bits; ++j) low[j] = ranks[8 + rank - j];
#pragma unroll
    for (int k = 1; k < 3; ++k) low[5 + k] = place.width > k ? bits[head.start[k] + place.bit] : 0U;
    transpose_bytes(low);
    if (head.planes > 3) {
#pragma unroll
      for (int k = 3; k < 8; ++k) high[k - 3] = place.width > k ? bits[head.start[k] + place.bit] : 0U;
      transpose_bytes(high);
    }
    // Without bits of its own a coordinate still sees those of others.
    const std::uint8_t* const levels = values + place.values;
#pragma unroll
    for (int m = 0; m < 4; ++m) {
      std::uint32_t value[8];
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        // Bytes of the high words are below 128: their sign is a byte of zeros.
        const std::uint32_t index =
            permute_bytes(low[j], high[j], 0xCC40U + static_cast<unsigned>(m) * 0x1111U);
        value[j] = *reinterpret_cast<const std::uint16_t*>(levels + 2 * index);
      }
      *reinterpret_cast<uint4*>(tile + lane * tile_pitch + 16 * m) =
          make_uint4(permute_bytes(value[0], value[1], 0x5410), permute_bytes(value[2], value[3], 0x5410),
                     permute_bytes(value[4], value[5], 0x5410), permute_bytes(value[6], value[7], 0x5410));
    }
    __syncwarp();
#pragma unroll
    for (int s = 0; s < 2; ++s) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        load_matrices(
            operand.word[2 * pass + s][half],
            tile + (16 * s + lane / 16 * 8 + lane % 8) * tile_pitch + (16 * half + lane / 8 % 2 * 8) * 2);
      }
    }
    __syncwarp();
  }
}

template <int D>
__global__ void __launch_bounds__(ScoreLayout<D>::threads, 1)
    calibrated_score_kernel(const __grid_constant__ ScoreArguments p) {
  using Head = HeadLayout<D>;
  using Layout = ScoreLayout<D>;
  extern __shared__ uint4 shared_words[];
  auto* const shared = reinterpret_cast<std::uint8_t*>(shared_words);
  const Layout layout(p.code_bytes, p.centroids, p.value_bytes);
  const int warp = static_cast<int>(threadIdx.x) / warp_size,
            lane = static_cast<int>(threadIdx.x) % warp_size;
  const int g = lane / 4, t = lane % 4;
  const std::int64_t head_index = blockIdx.y;
  const std::int64_t begin = blockIdx.x * p.tokens_per_block;
  const std::int64_t end = min(begin + p.tokens_per_block, p.tokens);
  const std::uint8_t* const codes = p.codes + head_index * p.capacity * p.code_bytes;

  // The head's tables: rows of the matrix and of centroids move apart.
  const std::uint8_t* const given = p.heads + static_cast<std::size_t>(head_index % p.codecs) * p.head_bytes;
  const int rows = D + p.centroids;
  for (int i = static_cast<int>(threadIdx.x); i < static_cast<int>(p.head_bytes / 16); i += Layout::threads) {
    const int at = 16 * i;
    int to = at;
    if (at >= Head::matrix) {
      const int row = (at - Head::matrix) / Head::row;
      to += 16 * (row < rows ? row : rows);
    }
    *reinterpret_cast<uint4*>(shared + to) = __ldg(reinterpret_cast<const uint4*>(given) + i);
  }
  const auto& head = *reinterpret_cast<const CalibratedHead*>(shared);
  const auto* const places = reinterpret_cast<const Place*>(shared + Head::places);
  const std::uint8_t* const matrix = shared + Head::matrix;
  const std::uint8_t* const centroids = shared + Head::shared_centroids;
  const std::uint8_t* const values = shared + layout.values;
  std::uint8_t* const turns = shared + layout.values + p.value_bytes;
  auto* const queries = reinterpret_cast<float*>(turns + Layout::turn_bytes);
  for (int i = static_cast<int>(threadIdx.x); i < tile_keys * D / 2; i += Layout::threads) {
    const int key = i / (D / 2), f = i % (D / 2);
    reinterpret_cast<float2*>(turns + key * Layout::turn_pitch)[f] = turn_of(key * p.turns[f]);
  }
  for (int i = static_cast<int>(threadIdx.x); i < most_queries * D; i += Layout::threads) {
    const int q = i / D;
    queries[i] = q < p.queries_per_head
                     ? p.queries[(head_index * p.queries_per_head + q) * D + __ldg(p.order + i % D)]
                     : 0.0F;
  }
  __syncthreads();

  std::uint8_t* const own = turns + Layout::turn_bytes + Layout::query_bytes + warp * layout.warp;
  auto* const bits = reinterpret_cast<std::uint32_t*>(own + 2 * layout.staging);
  auto* const ranks = reinterpret_cast<std::uint32_t*>(own + 2 * layout.staging + layout.bits);
  auto* const tile = reinterpret_cast<std::uint8_t*>(ranks + 8 + D);
  auto* const base = reinterpret_cast<float2*>(tile + 32 * Layout::tile_pitch);
  const auto tile_start = [&](int i) {
    return begin + (static_cast<std::int64_t>(i) * Layout::warps + warp) * tile_keys;
  };
  const auto fetch = [&](int i) {
    const std::int64_t first = tile_start(i);
    if (first < end) {
      std::uint8_t* const stage = own + i % 2 * layout.staging;
      const std::int64_t there = (end - first) * p.code_bytes;
      for (int at = 16 * lane; at < layout.staging; at += 16 * warp_size)
        copy_async_part(stage + at, codes + first * p.code_bytes + at, there - at);
    }
    commit_copies();
  };
  fetch(0);
  for (int i = 0; tile_start(i) < end; ++i) {
    const std::int64_t first = tile_start(i);
    fetch(i + 1);
    wait_for_copies<1>();
    __syncwarp();
    // A row may begin in the middle of a word.
    const std::uint8_t* const row = own + i % 2 * layout.staging + lane * p.code_bytes;
    const auto* const row_words =
        reinterpret_cast<const std::uint32_t*>(own + i % 2 * layout.staging + (lane * p.code_bytes & ~3));
    const auto shift = static_cast<unsigned>(8 * (reinterpret_cast<std::uintptr_t>(row) & 3));
    const int row_bytes_before = lane * p.code_bytes & ~3;
    for (int w = 0; 4 * w < p.code_bytes; ++w) {
      const bool more = row_bytes_before + 4 * w + 4 < layout.staging;
      const std::uint32_t word = __funnelshift_r(row_words[w], more ? row_words[w + 1] : 0U, shift);
      bits[32 * w + lane] = transpose_bits(word);
    }
    for (int f = lane; f < D / 2; f += warp_size) base[f] = turn_of(static_cast<double>(first) * p.turns[f]);
    __syncwarp();
    // The lane's key.
    int centroid = 0, scale_code = 0;
    for (int b = 0; b < head.centroid_bits; ++b) {
      centroid |= static_cast<int>((bits[head.centroid_bit + b] >> lane) & 1U) << b;
    }
    for (int b = 0; b < head.scale_bits; ++b) {
      scale_code |= static_cast<int>((bits[head.centroid_bit + head.centroid_bits + b] >> lane) & 1U) << b;
    }
    centroid = min(centroid, p.centroids - 1);
    const float scale = exp2f((static_cast<float>(scale_code) + head.scale_zero) * head.scale_step);
    KeyOperand<D> keys;
    decode_keys<D>(head, places, values, bits, ranks, tile, keys);

    float key_scale[4];  // keys g, g + 8, g + 16, g + 24
    const std::uint8_t* key_centroid[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      key_scale[k] = __shfl_sync(all_lanes, scale, 8 * k + g);
      key_centroid[k] = centroids + __shfl_sync(all_lanes, centroid, 8 * k + g) * Head::pitch;
    }
    float sums[2][4] = {};
#pragma unroll 1
    for (int block = 0; block < D / 16; ++block) {
      const int f = 8 * block + 2 * t;  // the lane's frequencies f and f + 1
      // Queries turned back by the tile's first position, in fp16 and what that leaves.
      std::uint32_t query[2][2];
      {
        const float2 a = *reinterpret_cast<const float2*>(queries + g * D + f);
        const float2 b = *reinterpret_cast<const float2*>(queries + g * D + f + D / 2);
        const float4 turn = *reinterpret_cast<const float4*>(base + f);
        const float turned[2][2] = {{a.x * turn.x + b.x * turn.y, a.y * turn.z + b.y * turn.w},
                                    {b.x * turn.x - a.x * turn.y, b.y * turn.z - a.y * turn.w}};
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          query[0][h] = to_half2(turned[h][0], turned[h][1]);
          const float2 kept = from_half2(query[0][h]);
          query[1][h] = to_half2(turned[h][0] - kept.x, turned[h][1] - kept.y);
        }
      }
      float product[2][2][4] = {};  // first or second members; keys 0 .. 15 or 16 .. 31
#pragma unroll
      for (int member = 0; member < 2; ++member) {
#pragma unroll
        for (int s = 0; s < D / 32; ++s) {
          std::uint32_t b[4];
          load_matrices(b, matrix + (32 * s + lane) * Head::pitch + 16 * (block + member * (D / 16)));
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            multiply_add(product[member][half], keys.word[2 * s][half], b[0], b[1]);
            multiply_add(product[member][half], keys.word[2 * s + 1][half], b[2], b[3]);
          }
        }
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        std::uint32_t turned[4];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const int k = 2 * half + r;
          const float2 first_centroid =
              from_half2(*reinterpret_cast<const std::uint32_t*>(key_centroid[k] + 2 * f));
          const float2 second_centroid =
              from_half2(*reinterpret_cast<const std::uint32_t*>(key_centroid[k] + 2 * f + D));
          const float4 turn =
              *reinterpret_cast<const float4*>(turns + (8 * k + g) * Layout::turn_pitch + 8 * f);
          const float ax = fmaf(product[0][half][2 * r], key_scale[k], first_centroid.x);
          const float ay = fmaf(product[0][half][2 * r + 1], key_scale[k], first_centroid.y);
          const float bx = fmaf(product[1][half][2 * r], key_scale[k], second_centroid.x);
          const float by = fmaf(product[1][half][2 * r + 1], key_scale[k], second_centroid.y);
          turned[r] = to_half2(ax * turn.x - bx * turn.y, ay * turn.z - by * turn.w);
          turned[2 + r] = to_half2(bx * turn.x + ax * turn.y, by * turn.z + ay * turn.w);
        }
        multiply_add(sums[half], turned, query[0][0], query[0][1]);
        multiply_add(sums[half], turned, query[1][0], query[1][1]);
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const std::int64_t token = first + 16 * half + e / 2 * 8 + g;
        const int q = 2 * t + e % 2;
        if (token < end && q < p.queries_per_head) {
          p.scores[(head_index * p.queries_per_head + q) * p.capacity + token] = sums[half][e] * head.unit;
        }
      }
    }
    __syncwarp();
  }
}

}  // namespace

CalibratedScores::CalibratedScores(std::span<const std::shared_ptr<const CalibratedCodec>> codecs,
                                   const Rope& rope)
    : count_(static_cast<int>(codecs.size())) {
  if (codecs.empty()) throw Error("attend: calibrated keys without a codec; valid: one or more");
  dim_ = static_cast<int>(codecs[0]->dim());
  code_bytes_ = static_cast<int>(codecs[0]->layout().arrays[0].bytes_per_vector());
  centroids_ = 0;
  int widest = 0;
  for (const auto& codec : codecs) {
    const auto used = codec->planes().count_at_least(1);
    if (codec->dim() != dim_ || (dim_ != 64 && dim_ != 128) || codec->parameters().bits > 4 ||
        codec->layout().arrays[0].bytes_per_vector() != code_bytes_ || codec->trellis() == nullptr ||
        codec->trellis()->code().memory() != 5 || used < register_bits) {
      throw Error(
          "attend: no CUDA attention over these calibrated keys; valid: trellis codes of memory 5, at most 4 "
          "bits and 64 or "
          "128 coordinates, the same of all heads");
    }
    centroids_ = std::max(centroids_, static_cast<int>(codec->parameters().num_centroids()));
    for (const std::uint8_t width : codec->widths()) widest = std::max<int>(widest, width);
  }
  if (rope.rotary_dim() > dim_) {
    throw Error("attend: a rotary embedding of " + std::to_string(rope.rotary_dim()) +
                " coordinates; valid: at most " + std::to_string(dim_));
  }
  value_bytes_ = 2 * zero_values << widest;
  std::vector<int> order;
  std::vector<double> turns;
  order_coordinates(rope, dim_, order, turns);
  std::vector<std::uint8_t> tables;
  for (const auto& codec : codecs) {
    const std::vector<std::uint8_t> head = dim_ == 64
                                               ? head_tables<64>(*codec, order, centroids_, value_bytes_)
                                               : head_tables<128>(*codec, order, centroids_, value_bytes_);
    head_bytes_ = head.size();
    tables.insert(tables.end(), head.begin(), head.end());
  }
  heads_ = Buffer<std::uint8_t>(tables);
  order_ = Buffer<int>(order);
  turns_ = Buffer<double>(turns);
}

void CalibratedScores::score(cudaStream_t stream, const float* queries, std::int64_t heads,
                             int queries_per_head, const std::uint8_t* codes, std::int64_t tokens,
                             std::int64_t capacity, float* scores) const {
  const auto run = [&]<int D>() {
    const auto bytes = static_cast<std::size_t>(ScoreLayout<D>(code_bytes_, centroids_, value_bytes_).total);
    const std::int64_t resident = resident_blocks("scores of calibrated keys", calibrated_score_kernel<D>,
                                                  ScoreLayout<D>::threads, bytes);
    constexpr std::int64_t step = std::int64_t{ScoreLayout<D>::warps} * tile_keys;
    const std::int64_t steps = (tokens + step - 1) / step;
    const std::int64_t splits = std::min(steps, std::max<std::int64_t>(1, resident / heads));
    const std::int64_t tokens_per_block = (steps + splits - 1) / splits * step;
    const dim3 grid(static_cast<unsigned>((tokens + tokens_per_block - 1) / tokens_per_block),
                    static_cast<unsigned>(heads));
    calibrated_score_kernel<D><<<grid, ScoreLayout<D>::threads, bytes, stream>>>(
        {heads_.data(), head_bytes_, count_, centroids_, value_bytes_, code_bytes_, order_.data(),
         turns_.data(), queries, queries_per_head, codes, tokens, capacity, tokens_per_block, scores});
    check_launch("scores of calibrated keys");
  };
  if (dim_ == 64) return run.template operator()<64>();
  return run.template operator()<128>();
}

}  // namespace rotorquant::device
