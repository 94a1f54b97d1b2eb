#pragma once
// The values' half of attention_kernel.cuh where scores are there already: softmax(scale scores) v over
// trellis codes of values, of memory 5, 2 or 3 bits and 64 or 128 coordinates.
//
// A warp takes 64 keys at a time. First a lane has two keys: their weights for all queries, exponentials of
// scores above the running maxima times the values' scales, go to shared memory as fp16. Then lane (g, t) has
// the eighth g of every fourth key's coordinates: pairs of neighbours, which one look-up makes in fp16, are
// the left operand (plane_fragments.cuh) as they are, for the inner index is a key and the coordinate's
// parity: the right operand has a weight at its own parity and zero at the other. Its eight columns are four
// queries times two parities.
//
// Tables lie so often in shared memory that few lanes, at 2 bits none, meet in a bank.
#include "rotorquant/device/attention_kernel.cuh"
#include "rotorquant/device/power_of_two.cuh"
#include "rotorquant/device/trellis_pairs.cuh"

namespace rotorquant::device {

inline constexpr int scored_warps = 16;
inline constexpr int scored_keys = 64;       // of a warp at a time
inline constexpr int queries_of_a_tile = 4;  // whose weights fill a right operand

template <int D, int bits>
struct ScoredValues {
  const std::uint8_t* codes;
  float offset;  // octaves of their scales
  const HalfPairs<bits>* tables;
  const float* scores;  // [heads * queries, capacity]
  std::int64_t capacity;
};

// tiles: of four queries each.
template <int D, int bits, int tiles>
struct ScoredMemory {
  // 2^these copies of each pair.
  static constexpr int pair_copies = bits == 2 ? 5 : 3, wide_copies = bits == 2 ? 3 : 1;
  static constexpr int pair_bytes = trellis_pairs<bits> << (2 + pair_copies);
  static constexpr int wide_bytes = 2 * trellis_pairs<bits> << (2 + wide_copies);
  static constexpr int row_bytes = trellis_row_bytes<D, bits>;
  static constexpr int stage_bytes = scored_keys * row_bytes;
  static constexpr int weight_bytes = queries_of_a_tile * tiles * scored_keys * 2;
  static constexpr int warp_bytes = 2 * stage_bytes + weight_bytes;
  static constexpr int tables = pair_bytes + wide_bytes;
  static constexpr int running = tables + scored_warps * warp_bytes;
  // At the end: outputs of the warps [warp, query, D], then maxima and sums [warp, query].
  static constexpr int joining = scored_warps * queries_of_a_tile * tiles * (D + 2) * 4;
  static constexpr int bytes = running > joining ? running : joining;
  static_assert(stage_bytes % 16 == 0 && weight_bytes % 16 == 0);
};

template <int D, int bits, int tiles>
__global__ void __launch_bounds__(scored_warps* warp_size, 1)
    scored_attention_kernel(const __grid_constant__ ScoredValues<D, bits> p,
                            const __grid_constant__ AttentionShape shape, AttentionPartials partials) {
  using Memory = ScoredMemory<D, bits, tiles>;
  using Values = TrellisEighth<D, bits>;
  constexpr int queries = queries_of_a_tile * tiles, pairs = D / 16;  // of a lane's eighth
  constexpr unsigned all = 0xFFFFFFFFU;
  extern __shared__ uint4 shared_words[];
  auto* const shared = reinterpret_cast<std::uint8_t*>(shared_words);
  const int warp = static_cast<int>(threadIdx.x) / warp_size,
            lane = static_cast<int>(threadIdx.x) % warp_size;
  const int g = lane / 4, t = lane % 4;
  const std::int64_t head = blockIdx.y;
  const std::int64_t begin = blockIdx.x * shape.tokens_per_split;
  const std::int64_t end = min(begin + shape.tokens_per_split, shape.tokens);
  std::uint8_t* const own = shared + Memory::tables + warp * Memory::warp_bytes;
  std::uint8_t* const weights = own + 2 * Memory::stage_bytes;
  constexpr std::int64_t stride = scored_warps * scored_keys;

  std::int64_t first = begin + warp * scored_keys;
  const std::uint8_t* codes = p.codes + (head * p.capacity + first) * Memory::row_bytes;
  const auto fetch = [&](int i, std::int64_t ahead) {
    const std::int64_t count = end - first - ahead;
    std::uint8_t* const to = own + i % 2 * Memory::stage_bytes;
    const std::uint8_t* const from = codes + ahead * Memory::row_bytes;
    if (count >= scored_keys) {
#pragma unroll
      for (int at = 0; at < Memory::stage_bytes; at += 16 * warp_size) {
        if (at + 16 * lane < Memory::stage_bytes) copy_async_16(to + at + 16 * lane, from + at + 16 * lane);
      }
    } else if (count > 0) {
      fetch_rows<Memory::stage_bytes>(to, from, count * Memory::row_bytes);
    }
    commit_copies();
  };
  fetch(0, 0);
  // Scores of the lane's keys 2 l and 2 l + 1.
  const float* scores = p.scores + head * shape.queries_per_head * p.capacity + first + 2 * lane;
  float2 score[queries];
  const auto load_scores = [&](std::int64_t ahead) {
    const std::int64_t left = end - first - ahead - 2 * lane;
#pragma unroll
    for (int q = 0; q < queries; ++q) {
      const float* const of = scores + q * p.capacity + ahead;
      score[q] = make_float2(0.0F, 0.0F);
      if (q < shape.queries_per_head && left > 1) score[q] = __ldg(reinterpret_cast<const float2*>(of));
      if (q < shape.queries_per_head && left == 1) score[q].x = __ldg(of);
    }
  };
  load_scores(0);

  for (int i = static_cast<int>(threadIdx.x); i < Memory::tables / 4; i += scored_warps * warp_size) {
    const bool wide = i >= Memory::pair_bytes / 4;
    const int at = wide ? (i - Memory::pair_bytes / 4) >> Memory::wide_copies : i >> Memory::pair_copies;
    reinterpret_cast<std::uint32_t*>(shared)[i] = __ldg((wide ? p.tables->wide : p.tables->pair) + at);
  }
  __syncthreads();
  const std::uint32_t pair_place = static_cast<std::uint32_t>(lane % (1 << Memory::pair_copies) * 4);
  const std::uint32_t wide_place = static_cast<std::uint32_t>(lane % (1 << Memory::wide_copies) * 4);
  // Of an even key's weight, and an odd one's, in a word: to the half of the lane's parity.
  const std::uint32_t even = g % 2 == 0 ? 0x4410U : 0x1044U, odd = g % 2 == 0 ? 0x4432U : 0x3244U;

  float output[tiles][pairs / 2][4] = {};
  float maximum[queries], sum[queries] = {};
#pragma unroll
  for (int q = 0; q < queries; ++q) maximum[q] = -INFINITY;

  for (int i = 0; first < end; ++i) {
    fetch(i + 1, stride);
    wait_for_copies<1>();
    __syncwarp();
    const std::uint8_t* const stage = own + i % 2 * Memory::stage_bytes;

    const bool there[2] = {first + 2 * lane < end, first + 2 * lane + 1 < end};
    float octaves[2], norm[2];
    bool raised = false;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const std::uint32_t code = stage[(2 * lane + k) * Memory::row_bytes];
      octaves[k] = fmaf(static_cast<float>(code), 0.0625F, p.offset - 8.0F);
      norm[k] = code == 0 ? 0.0F : power_of_two(octaves[k]);
    }
#pragma unroll
    for (int q = 0; q < queries; ++q) {
      score[q].x = there[0] ? score[q].x * shape.scale_log2 : -INFINITY;
      score[q].y = there[1] ? score[q].y * shape.scale_log2 : -INFINITY;
      raised |= fmaxf(score[q].x + octaves[0], score[q].y + octaves[1]) > maximum[q];
    }
    if (__any_sync(all, raised)) {
      float factor[queries];
#pragma unroll
      for (int q = 0; q < queries; ++q) {
        float most = fmaxf(score[q].x + octaves[0], score[q].y + octaves[1]);
#pragma unroll
        for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(all, most, step));
        most = fmaxf(most, maximum[q]);
        // Queries that are not there have no maximum.
        factor[q] = most == maximum[q] ? 1.0F : power_of_two(maximum[q] - most);
        maximum[q] = most;
        sum[q] *= factor[q];
      }
#pragma unroll
      for (int tile = 0; tile < tiles; ++tile) {
        const float* const of = factor + tile * queries_of_a_tile;
        const float own_factor = t < 2 ? (t == 0 ? of[0] : of[1]) : (t == 2 ? of[2] : of[3]);
#pragma unroll
        for (int s = 0; s < pairs / 2; ++s) {
#pragma unroll
          for (int k = 0; k < 4; ++k) output[tile][s][k] *= own_factor;
        }
      }
    }
    // Weight [query, key mod 4, key / 4].
    auto* const weight = reinterpret_cast<__half*>(weights) + 2 * lane % 4 * (scored_keys / 4) + lane / 2;
#pragma unroll
    for (int q = 0; q < queries; ++q) {
      if (q < shape.queries_per_head) {
        const float a = power_of_two(score[q].x - maximum[q]), b = power_of_two(score[q].y - maximum[q]);
        sum[q] += a + b;
        weight[q * scored_keys] = __float2half_rn(a * norm[0]);
        weight[q * scored_keys + scored_keys / 4] = __float2half_rn(b * norm[1]);
      } else {
        weight[q * scored_keys] = weight[q * scored_keys + scored_keys / 4] = __half{};
      }
    }
    load_scores(stride);
    __syncwarp();

#pragma unroll
    for (int half = 0; half < 2; ++half) {
      std::uint32_t word[tiles][4];  // of eight keys, two each
#pragma unroll
      for (int tile = 0; tile < tiles; ++tile) {
        const uint4 four = *reinterpret_cast<const uint4*>(
            weights + ((tile * queries_of_a_tile + g / 2) * scored_keys + t * (scored_keys / 4)) * 2 +
            16 * half);
        word[tile][0] = four.x, word[tile][1] = four.y, word[tile][2] = four.z, word[tile][3] = four.w;
      }
#pragma unroll
      for (int u = 0; u < 4; ++u) {
        // Keys t and t + 4 of eight.
        Values values[2];
        const std::uint8_t* const row = stage + (32 * half + 8 * u + t) * Memory::row_bytes;
        values[0].load(row, g);
        values[1].load(row + 4 * Memory::row_bytes, g);
#pragma unroll
        for (int s = 0; s < pairs / 2; ++s) {
          std::uint32_t a[4];
#pragma unroll
          for (int k = 0; k < 2; ++k) {
#pragma unroll
            for (int r = 0; r < 2; ++r) {
              constexpr int run = Values::run;
              const int c = 4 * s + 2 * r;
              const bool wide = Values::wide(c) >= 0;
              const std::uint32_t at =
                  wide ? values[k].template offset<2 + Memory::wide_copies, run>(0, c, Values::wide(c)) |
                             wide_place
                       : values[k].template offset<2 + Memory::pair_copies, run>(0, c, -1) | pair_place;
              a[2 * k + r] =
                  *reinterpret_cast<const std::uint32_t*>(shared + (wide ? Memory::pair_bytes : 0) + at);
            }
          }
#pragma unroll
          for (int tile = 0; tile < tiles; ++tile) {
            multiply_add(output[tile][s], a, permute_bytes(word[tile][u], 0U, even),
                         permute_bytes(word[tile][u], 0U, odd));
          }
        }
      }
    }
    first += stride;
    codes += stride * Memory::row_bytes;
    scores += stride;
    __syncwarp();
  }
  wait_for_copies<0>();
#pragma unroll
  for (int q = 0; q < queries; ++q) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) sum[q] += __shfl_xor_sync(all, sum[q], step);
  }

  __syncthreads();
  auto* const outputs = reinterpret_cast<float*>(shared);
  auto* const states = reinterpret_cast<float2*>(outputs + scored_warps * queries * D);
#pragma unroll
  for (int tile = 0; tile < tiles; ++tile) {
#pragma unroll
    for (int s = 0; s < pairs / 2; ++s) {
      float* const row = outputs + (warp * queries + tile * queries_of_a_tile + t) * D + D / 8 * g + 4 * s;
      *reinterpret_cast<float4*>(row) =
          make_float4(output[tile][s][0], output[tile][s][1], output[tile][s][2], output[tile][s][3]);
    }
  }
#pragma unroll
  for (int q = 0; q < queries; ++q) {
    if (lane == q) states[warp * queries + q] = make_float2(maximum[q], sum[q]);
  }
  __syncthreads();
  join_warps<scored_warps, queries, D>(outputs, states, shape, head, partials);
}

// Launches, of one tile of queries or two.
template <int D, int bits>
class ScoredAttention {
 public:
  static AttentionSplit split(std::int64_t heads, int queries, std::int64_t tokens) {
    const std::int64_t at_a_time = queries > queries_of_a_tile ? resident<2>() : resident<1>();
    return split_tokens(at_a_time, std::int64_t{scored_warps} * scored_keys, heads, tokens);
  }
  static void launch(cudaStream_t stream, const ScoredValues<D, bits>& values, const AttentionShape& shape,
                     const AttentionPartials& partials) {
    shape.queries_per_head > queries_of_a_tile ? launch_tiles<2>(stream, values, shape, partials)
                                               : launch_tiles<1>(stream, values, shape, partials);
  }

 private:
  template <int tiles>
  static int resident() {
    return resident_blocks("attention with scores", scored_attention_kernel<D, bits, tiles>,
                           scored_warps * warp_size, ScoredMemory<D, bits, tiles>::bytes);
  }
  template <int tiles>
  static void launch_tiles(cudaStream_t stream, const ScoredValues<D, bits>& values,
                           const AttentionShape& shape, const AttentionPartials& partials) {
    constexpr std::size_t bytes = ScoredMemory<D, bits, tiles>::bytes;
    const auto kernel = scored_attention_kernel<D, bits, tiles>;
    allow_shared_memory("attention with scores", kernel, bytes);
    const dim3 grid(static_cast<unsigned>(shape.splits), static_cast<unsigned>(shape.heads));
    kernel<<<grid, scored_warps * warp_size, bytes, stream>>>(values, shape, partials);
    check_launch("attention with scores");
  }
};

}  // namespace rotorquant::device
