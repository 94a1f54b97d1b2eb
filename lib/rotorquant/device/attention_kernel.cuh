#pragma once
// Split-K flash decoding (Dao et al., "Flash-Decoding for long-context inference", 2023) of up to eight query
// heads that share their keys and values. A block takes a range of one head's tokens; each of its warps takes
// tiles of it with a running maximum, sum and output of its own, which are joined at the end of the block
// and, by merge_splits, over blocks.
//
// The 16 rows of the score product are eight queries in fp16 and what that rounding left of them, so that
// scores are those of the float32 queries. The running maximum is that of score + log2(value norm): weights
// times norms then fit fp16.
#include "rotorquant/device/attention_sources.cuh"
#include "rotorquant/device/launch.cuh"

namespace rotorquant::device {

inline constexpr int attention_warps = 4;
inline constexpr int attention_threads = attention_warps * warp_size;
inline constexpr int queries_together = 8;

struct AttentionShape {
  std::int64_t heads;             // sequences times KV heads
  int queries_per_head;           // 1..8
  std::int64_t tokens;            // of every head
  std::int64_t tokens_per_split;  // a multiple of a warp's tile
  int splits;
  float scale_log2;  // softmax scale times log2(e)
};

// What a block leaves: for query i of its head, the output not yet divided [D], the maximum and the sum.
struct AttentionPartials {
  float* outputs;           // [heads, splits, 8, D]
  float2* maxima_and_sums;  // [heads, splits, 8]
};

__device__ __forceinline__ std::uint32_t pack_half2(float first, float second) {
  const __half2 pair = __floats2half2_rn(first, second);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

// Norms of 0 count as the least subnormal fp16.
__device__ __forceinline__ float log2_norm(float norm) {
  return __log2f(fmaxf(norm, 0x1p-24F));
}

template <typename Source>
inline constexpr bool is_sketched = requires {
  Source::sketched;
};

// The operand of row g's query, nullptr for zeros.
template <typename Source>
__device__ __forceinline__ void load_query(const float* from, float unit,
                                           std::uint32_t (&query)[Source::dim / 16][4]) {
  const int t = static_cast<int>(threadIdx.x % 4);
#pragma unroll
  for (int s = 0; s < Source::dim / 16; ++s) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float value[2], rest[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        value[i] = from != nullptr ? unit * from[Source::query_coordinate(t, s, 2 * half + i)] : 0.0F;
        rest[i] = value[i] - __half2float(__float2half_rn(value[i]));
      }
      query[s][2 * half] = pack_half2(value[0], value[1]);
      query[s][2 * half + 1] = pack_half2(rest[0], rest[1]);
    }
  }
}

// Joins what a block's warps leave in shared memory, outputs [warp, queries, D] and maxima with sums [warp,
// queries], to the block's partial results.
template <int warps, int queries, int D>
__device__ __forceinline__ void join_warps(const float* outputs, const float2* states,
                                           const AttentionShape& shape, std::int64_t head,
                                           const AttentionPartials& partials) {
  const std::int64_t slot = (head * shape.splits + blockIdx.x) * queries_together;
  for (int i = static_cast<int>(threadIdx.x); i < shape.queries_per_head * D; i += warps * warp_size) {
    const int q = i / D;
    float joint = -INFINITY;
#pragma unroll
    for (int w = 0; w < warps; ++w) joint = fmaxf(joint, states[w * queries + q].x);
    float value = 0.0F, total = 0.0F;
#pragma unroll
    for (int w = 0; w < warps; ++w) {
      const float2 state = states[w * queries + q];
      const float factor = exp2f(state.x - joint);
      value += factor * outputs[(w * queries + q) * D + i % D];
      total += factor * state.y;
    }
    partials.outputs[slot * D + i] = value;
    if (i % D == 0) partials.maxima_and_sums[slot + q] = make_float2(joint, total);
  }
}

template <typename Source>
__global__ void __launch_bounds__(attention_threads,
                                  Source::stages* Source::stage_bytes* attention_warps > 80000 ? 2 : 3)
    attention_kernel(const __grid_constant__ typename Source::Parameters parameters,
                     const __grid_constant__ AttentionShape shape, const float* queries,
                     AttentionPartials partials) {
  constexpr int D = Source::dim;
  constexpr int tile = Source::tile;
  constexpr int groups = tile / 8;
  extern __shared__ uint4 shared_words[];
  auto* const tables = reinterpret_cast<std::uint8_t*>(shared_words);
  std::uint8_t* const shared = tables + Source::table_bytes;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int g = lane / 4, t = lane % 4;
  const std::int64_t head = blockIdx.y;
  const Source source(parameters, head, tables);
  const std::int64_t begin = blockIdx.x * shape.tokens_per_split;
  const std::int64_t end = min(begin + shape.tokens_per_split, shape.tokens);
  std::uint8_t* const own = shared + warp * (Source::stages * Source::stage_bytes);

  const auto tile_start = [&](int i) {
    return begin + (static_cast<std::int64_t>(i) * attention_warps + warp) * tile;
  };
  const auto fetch = [&](int i) {
    const std::int64_t first = tile_start(i);
    if (first < end) {
      source.fetch(own + i % Source::stages * Source::stage_bytes, first,
                   static_cast<int>(min(static_cast<std::int64_t>(tile), end - first)));
    } else {
      commit_copies();  // an empty group keeps the count of groups in step
    }
  };
#pragma unroll
  for (int i = 0; i < Source::stages - 1; ++i) fetch(i);
  if constexpr (Source::table_bytes > 0) {
    source.fill_tables(tables);
    __syncthreads();
  }

  std::uint32_t query[D / 16][4], sketched_query[D / 16][4];
  const std::int64_t own_query = head * shape.queries_per_head + g;
  const bool asked = g < shape.queries_per_head;
  load_query<Source>(asked ? queries + own_query * D : nullptr, source.query_unit(), query);
  if constexpr (is_sketched<Source>) {
    load_query<Source>(asked ? source.sketched_queries() + own_query * D : nullptr, source.sketch_unit(),
                       sketched_query);
  }

  float output[D / 16][4] = {};
  float maximum = -INFINITY, sum = 0.0F;
  for (int i = 0; tile_start(i) < end; ++i) {
    fetch(i + Source::stages - 1);
    wait_for_copies<Source::stages - 1>();
    __syncwarp();
    const std::uint8_t* const stage = own + i % Source::stages * Source::stage_bytes;
    const std::int64_t first = tile_start(i);
    float score[groups][2];
    float tile_maximum = -INFINITY;
#pragma unroll
    for (int j = 0; j < groups; ++j) {
      float sums[4] = {};
      source.score(stage, j, query, sums);
      const float2 key_norm = source.key_norms(stage, j);
      const float2 value_norm = source.value_norms(stage, j);
      const bool there[2] = {first + 8 * j + 2 * t < end, first + 8 * j + 2 * t + 1 < end};
      float product[2] = {(sums[0] + sums[2]) * key_norm.x, (sums[1] + sums[3]) * key_norm.y};
      if constexpr (is_sketched<Source>) {
        float corrections[4] = {};
        source.score_signs(stage, j, sketched_query, corrections);
        const float2 residual = source.residual_norms(stage, j);
        product[0] += (corrections[0] + corrections[2]) * residual.x;
        product[1] += (corrections[1] + corrections[3]) * residual.y;
      }
      score[j][0] = there[0] ? product[0] * shape.scale_log2 : -INFINITY;
      score[j][1] = there[1] ? product[1] * shape.scale_log2 : -INFINITY;
      tile_maximum = fmaxf(
          tile_maximum, fmaxf(score[j][0] + log2_norm(value_norm.x), score[j][1] + log2_norm(value_norm.y)));
    }
    tile_maximum = fmaxf(tile_maximum, __shfl_xor_sync(0xFFFFFFFFU, tile_maximum, 1));
    tile_maximum = fmaxf(tile_maximum, __shfl_xor_sync(0xFFFFFFFFU, tile_maximum, 2));
    if (__any_sync(0xFFFFFFFFU, tile_maximum > maximum)) {
      const float raised = fmaxf(maximum, tile_maximum);
      const float factor = exp2f(maximum - raised);
      maximum = raised;
      sum *= factor;
      const float first_factor = __shfl_sync(0xFFFFFFFFU, factor, 8 * t);
      const float second_factor = __shfl_sync(0xFFFFFFFFU, factor, 8 * t + 4);
#pragma unroll
      for (int s = 0; s < D / 16; ++s) {
        output[s][0] *= first_factor;
        output[s][1] *= second_factor;
        output[s][2] *= first_factor;
        output[s][3] *= second_factor;
      }
    }
    std::uint32_t weight[groups];
#pragma unroll
    for (int j = 0; j < groups; ++j) {
      const float2 value_norm = source.value_norms(stage, j);
      const float a = exp2f(score[j][0] - maximum), b = exp2f(score[j][1] - maximum);
      sum += a + b;
      weight[j] = pack_half2(a * value_norm.x, b * value_norm.y);
    }
#pragma unroll
    for (int u = 0; u < groups / 2; ++u)
      source.accumulate(stage, u, weight[2 * u], weight[2 * u + 1], output);
    __syncwarp();
  }
  wait_for_copies<0>();
  sum += __shfl_xor_sync(0xFFFFFFFFU, sum, 1);
  sum += __shfl_xor_sync(0xFFFFFFFFU, sum, 2);

  // The stages are free now: outputs of the warps [warp, 8, D], then maxima and sums [warp, 8].
  __syncthreads();
  auto* const outputs = reinterpret_cast<float*>(shared);
  auto* const states = reinterpret_cast<float2*>(outputs + attention_warps * queries_together * D);
#pragma unroll
  for (int s = 0; s < D / 16; ++s) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      outputs[(warp * queries_together + 2 * t + i % 2) * D + Source::output_coordinate(g, s, i / 2)] =
          output[s][i];
    }
  }
  if (t == 0) states[warp * queries_together + g] = make_float2(maximum, sum);
  __syncthreads();
  join_warps<attention_warps, queries_together, D>(outputs, states, shape, head, partials);
}

template <typename Source>
constexpr std::size_t attention_shared_bytes() {
  constexpr std::size_t stages =
      static_cast<std::size_t>(attention_warps) * Source::stages * Source::stage_bytes;
  constexpr std::size_t joining = sizeof(float) * attention_warps * queries_together * (Source::dim + 2);
  return Source::table_bytes + (stages > joining ? stages : joining);
}

template <typename Source>
void launch_attention(cudaStream_t stream, const typename Source::Parameters& parameters,
                      const AttentionShape& shape, const float* queries, const AttentionPartials& partials) {
  constexpr std::size_t bytes = attention_shared_bytes<Source>();
  allow_shared_memory("attention", attention_kernel<Source>, bytes);
  const dim3 grid(static_cast<unsigned>(shape.splits), static_cast<unsigned>(shape.heads));
  attention_kernel<Source><<<grid, attention_threads, bytes, stream>>>(parameters, shape, queries, partials);
  check_launch("attention");
}

// How many tokens a block takes, so that blocks fill the GPU in as few equal rounds as there are.
struct AttentionSplit {
  std::int64_t tokens_per_split;
  int splits;
};
// at_a_time: blocks that the GPU holds; step: tokens of a block's round.
inline AttentionSplit split_tokens(std::int64_t at_a_time, std::int64_t step, std::int64_t heads,
                                   std::int64_t tokens) {
  const std::int64_t longest = (tokens + step - 1) / step;  // splits of one step each
  std::int64_t splits = at_a_time / heads;
  if (splits < 1) splits = 1;
  if (splits > longest) splits = longest;
  const std::int64_t steps = (longest + splits - 1) / splits;
  return {steps * step, static_cast<int>((longest + steps - 1) / steps)};
}
template <typename Source>
AttentionSplit split_attention(std::int64_t heads, std::int64_t tokens) {
  const std::int64_t at_a_time = resident_blocks("attention", attention_kernel<Source>, attention_threads,
                                                 attention_shared_bytes<Source>());
  return split_tokens(at_a_time, std::int64_t{attention_warps} * Source::tile, heads, tokens);
}

}  // namespace rotorquant::device
