#pragma once
// The kernel of calibrated_scores.cuh.
//
// A warpgroup takes 128 keys at a time, a warp 32 of them in two halves of 16: row r of a warp's half h is
// its key 16 h + r. Decoded keys are the left operand of a product with the inverse transform. In its sums,
// fp16, a thread has both members of each pair of coordinates that turn together, of two keys: they are
// scaled, moved by their centroids and turned in its registers, and are there the left operand of the product
// with the queries. Meanwhile the tensor cores look for the levels of the next half (indexed_keys.cuh). All
// products are the warpgroup's: one that a warp waits for by itself would wait for other warpgroups' too.
//
// A key's position is split, p_0 + 16 h + j: keys turn by j, whose sines stay in registers, queries back by
// the rest.
#include "rotorquant/device/hopper/indexed_keys.cuh"
#include "rotorquant/device/hopper/turned_queries.cuh"
#include "rotorquant/device/hopper/wgmma.cuh"
#include "rotorquant/device/power_of_two.cuh"
#include "rotorquant/device/warp_tile.cuh"

namespace rotorquant::device {

inline constexpr int warpgroup_keys = 128;
// Rounds after which queries are turned anew: until then their errors add up.
inline constexpr int rounds_to_restart = 64;
// Of a head at a time, so that keys are counted in 32 bits.
inline constexpr int most_rounds = 1 << 20;

struct CalibratedScoreArguments {
  QueryHeads queries;
  const std::uint8_t* images;  // of the heads (calibrated_tables.cuh), of which there are `codecs`
  HeadImage image;
  int codecs, centroids;
  const std::uint8_t* codes;
  int code_bytes;
  std::int64_t heads, tokens, capacity;
  std::int64_t rounds;  // of each head: what a block takes at a time
  float* scores;
};

// A block's shared memory: the head's image, turned queries of two rounds and two halves a warpgroup, and two
// rounds' codes of each warp.
template <int D>
struct ScoreMemory {
  static constexpr int most_warpgroups = D == 64 ? 4 : 3;
  static constexpr int query_bytes = 4 * TurnedQueries<D>::operand_bytes;
  // Words past the last code are read.
  static __host__ __device__ constexpr int staging(int code_bytes) { return warp_size * code_bytes + 48; }
  static __host__ __device__ constexpr int queries(int image_bytes) {
    return (image_bytes + 1023) / 1024 * 1024;
  }
  static __host__ __device__ constexpr int codes(int image_bytes, int warpgroups) {
    return queries(image_bytes) + warpgroups * query_bytes;
  }
  static __host__ __device__ constexpr int total(int image_bytes, int code_bytes, int warpgroups) {
    return codes(image_bytes, warpgroups) + 8 * warpgroups * staging(code_bytes);
  }
};

__device__ __forceinline__ __half2 round_pair(float first, float second) {
  return __floats2half2_rn(first, second);
}
__device__ __forceinline__ std::uint32_t as_word(__half2 pair) {
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}
__device__ __forceinline__ __half2 as_half2(std::uint32_t word) {
  return *reinterpret_cast<const __half2*>(&word);
}
// What is written as any memory is, tensor cores read by a path of their own.
__device__ __forceinline__ void fence_for_products() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ __forceinline__ void join_warpgroup(int warpgroup) {
  asm volatile("bar.sync %0, %1;" ::"r"(1 + warpgroup), "n"(warpgroup_threads) : "memory");
}

// Sines of the lane's keys g and g + 8 of a half (r), for the frequencies 32 b + 8 j + 2 t and one more.
template <int D>
struct KeyTurns {
  __half2 cosine[D / 64][4][2], sine[D / 64][4][2];

  __device__ KeyTurns(const double* turns, int first_key) {
    const int g = this_lane() / 4, t = this_lane() % 4;
#pragma unroll
    for (int j = 0; j < D / 16; ++j) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const double key = first_key + g + 8 * r;
        const float2 a = turn_of(key * __ldg(turns + 8 * j + 2 * t));
        const float2 b = turn_of(key * __ldg(turns + 8 * j + 2 * t + 1));
        cosine[j / 4][j % 4][r] = round_pair(a.x, b.x);
        sine[j / 4][j % 4][r] = round_pair(a.y, b.y);
      }
    }
  }
};

// Of the lane's key: its scale above where its centroid is.
__device__ __forceinline__ std::uint32_t fields_of(const KeyHead& head, int centroids,
                                                   const std::uint8_t* stage, int first_bit) {
  std::uint32_t fields[1];
  load_bits(stage, first_bit + head.centroid_bit, fields);
  const int centroid = min(static_cast<int>(fields[0] & ((1U << head.centroid_bits) - 1U)), centroids - 1);
  const int scale_code = static_cast<int>(fields[0] >> head.centroid_bits & ((1U << head.scale_bits) - 1U)) -
                         (1 << (head.scale_bits - 1));
  const __half scale = __float2half_rn(power_of_two(static_cast<float>(scale_code) * head.scale_step));
  return as_word(__halves2half2(__ushort_as_half(static_cast<unsigned short>(centroid)), scale));
}

template <int D, int single_steps, KeyCode code>
__global__ void __launch_bounds__(ScoreMemory<D>::most_warpgroups* warpgroup_threads, 1)
    calibrated_score_kernel(const __grid_constant__ CalibratedScoreArguments p) {
  using Memory = ScoreMemory<D>;
  extern __shared__ __align__(1024) uint4 shared_words[];
  auto* const shared = reinterpret_cast<std::uint8_t*>(shared_words);
  const int warp = static_cast<int>(threadIdx.x / warp_size), lane = kept(this_lane());
  const int g = lane / 4, t = lane % 4;
  const int warpgroup = warp / 4, member = warp % 4, thread = 32 * member + lane;
  const int stride = static_cast<int>(blockDim.x) / warpgroup_threads * warpgroup_keys;

  std::uint8_t* const operands = shared + Memory::queries(p.image.bytes) + warpgroup * Memory::query_bytes;
  for (int i = 0; i < 4; ++i) TurnedQueries<D>::clear(operands + i * TurnedQueries<D>::operand_bytes, thread);
  const int staging = Memory::staging(p.code_bytes);
  std::uint8_t* const own = shared +
                            Memory::codes(p.image.bytes, static_cast<int>(blockDim.x) / warpgroup_threads) +
                            warp * 2 * staging;
  const auto query_operand =
      operand_descriptor(static_cast<std::uint32_t>(__cvta_generic_to_shared(operands)));
  TurnedQueries<D> queries(p.queries, thread, stride);
  const KeyTurns<D> turns(p.queries.turns, 32 * member);

  // All heads' rounds are shared out evenly among blocks: a block has some of one head, then of the next.
  const std::int64_t total = p.heads * p.rounds;
  const std::int64_t last = total * (blockIdx.x + 1) / gridDim.x;
  std::int64_t loaded = -1;
  for (std::int64_t round = total * blockIdx.x / gridDim.x; round < last;) {
    const std::int64_t head_index = round / p.rounds, first_round = round - head_index * p.rounds;
    const std::int64_t here = min(min(last - round, p.rounds - first_round), std::int64_t{most_rounds});
    const std::int64_t begin = first_round * stride;
    const int count = static_cast<int>(min(here * stride, p.tokens - begin));
    round += here;
    __syncthreads();
    if (loaded != head_index % p.codecs) {
      loaded = head_index % p.codecs;
      const auto* const given = reinterpret_cast<const uint4*>(p.images + loaded * p.image.bytes);
      for (int i = static_cast<int>(threadIdx.x); i < p.image.bytes / 16; i += static_cast<int>(blockDim.x))
        shared_words[i] = __ldg(given + i);
    }
    const auto& head = *reinterpret_cast<const KeyHead*>(shared + p.image.head);
    // The warp's keys of the next round to fetch.
    const int warp_first = warpgroup * warpgroup_keys + 32 * member;
    int ahead = count - warp_first;
    const std::uint8_t* codes =
        p.codes + (head_index * p.capacity + begin + warp_first) * p.code_bytes + 16 * lane;
    const int round_bytes = warp_size * p.code_bytes, first_bit = kept(8 * lane * p.code_bytes);
    const auto fetch = [&](std::uint8_t* stage) {
      if (ahead >= warp_size) {
#pragma unroll 1
        for (int at = 0; at < round_bytes - 16 * lane; at += 16 * warp_size)
          copy_async_16(stage + 16 * lane + at, codes + at);
      } else if (ahead > 0) {
        const int there = ahead * p.code_bytes - 16 * lane;
        for (int at = 0; at < round_bytes - 16 * lane; at += 16 * warp_size)
          copy_async_part(stage + 16 * lane + at, codes + at, there - at);
      }
      commit_copies();
      ahead -= stride;
      codes += stride * p.code_bytes;
    };
    // Two rounds ahead, so that the next one's codes are there when this one ends.
    fetch(own);
    fetch(own + staging);
    fence_for_products();
    __syncthreads();
    const IndexedKeys<D, single_steps, code> decoder(head, p.image, shared, p.code_bytes);
    // Lanes of odd rows read the second copy of a centroid, whose halves lie the other way round.
    const int swapped = kept(g % 2 * 64);
    const std::uint8_t* const centroids =
        shared + p.image.centroids + (swapped != 0 ? HeadImage::second_copy<D> : 0) + 16 * t;
    const float unit = kept(head.unit);
    const bool has_query[2] = {2 * t < p.queries.per_head, 2 * t + 1 < p.queries.per_head};
    float* out = p.scores + (head_index * p.queries.per_head + 2 * t) * p.capacity + begin + warp_first + g;
    const auto matrix =
        operand_descriptor(static_cast<std::uint32_t>(__cvta_generic_to_shared(shared + p.image.operand)));

    const std::int64_t first = begin + warpgroup * warpgroup_keys;  // of the warpgroup's keys
    queries.move_to(p.queries, head_index, first);
    queries.store(p.queries, operands);
    fence_for_products();
    wait_for_copies<1>();
    __syncwarp();
    std::uint32_t keys[D / 16][4];
    typename IndexedKeys<D, single_steps, code>::Indices indices;
    decoder.begin(own, 0, indices);
    decoder.finish(own, 0, indices, keys);
    int left = count - warp_first - g;  // keys from the lane's first on
    for (int i = 0; i * stride < count - warpgroup * warpgroup_keys; ++i, left -= stride, out += stride) {
      const std::uint32_t turned_queries =
          query_operand + static_cast<std::uint32_t>(i % 2 * 2 * TurnedQueries<D>::operand_bytes) / 16;
      std::uint8_t* const stage = own + i % 2 * staging;
      std::uint8_t* const next_stage = own + (i + 1) % 2 * staging;
      std::uint32_t key_fields = 0;
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        std::uint32_t sums[D / 64][16];
        wgmma_begin();
#pragma unroll
        for (int b = 0; b < D / 64; ++b) {
#pragma unroll
          for (int s = 0; s < D / 16; ++s)
            wgmma_half(sums[b], keys[s], whole_descriptor(matrix + HeadImage::operand_place<D>(b, s) / 16),
                       s != 0);
          wgmma_commit();
        }
        // What else there is to do meanwhile.
        if (h == 0) {
          key_fields = fields_of(head, p.centroids, stage, first_bit);
          join_warpgroup(warpgroup);  // all have stored their queries
        } else {
          if ((i + 1) % rounds_to_restart == 0) {
            queries.move_to(p.queries, head_index, first + std::int64_t{i + 1} * stride);
          } else {
            queries.move_on();
          }
          queries.store(p.queries, operands + (i + 1) % 2 * 2 * TurnedQueries<D>::operand_bytes);
          fence_for_products();
          wait_for_copies<0>();
          __syncwarp();
        }

        float scores[4];
#pragma unroll
        for (int b = 0; b < D / 64; ++b) {
          if (b + 1 < D / 64) {
            wgmma_wait<1>(sums[b]);
          } else {
            wgmma_wait(sums[b]);
            // The tensor cores look for the next half's levels while this one's sums are turned.
            if (h == 0) {
              decoder.begin(stage, 1, indices);
            } else {
              decoder.begin(next_stage, 0, indices);
              fetch(stage);
            }
          }
          std::uint32_t turned[4][4];
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            const std::uint32_t of_key = __shfl_sync(all_lanes, key_fields, 16 * h + 8 * r + g);
            const __half2 of_scale = __high2half2(as_half2(of_key));
            const std::uint8_t* const row =
                centroids + static_cast<int>(of_key & 0xFFFFU) * HeadImage::centroid_pitch<D> + 128 * b;
            const uint4 low = *reinterpret_cast<const uint4*>(row + swapped);
            const uint4 high = *reinterpret_cast<const uint4*>(row + (64 ^ swapped));
            const std::uint32_t offsets[2][4] = {{low.x, low.y, low.z, low.w},
                                                 {high.x, high.y, high.z, high.w}};
#pragma unroll
            for (int j = 0; j < 4; ++j) {
              const int other = j + 4;
              const __half2 x = __hfma2(as_half2(sums[b][2 * j + r]), of_scale, as_half2(offsets[0][j]));
              const __half2 y = __hfma2(as_half2(sums[b][2 * other + r]), of_scale, as_half2(offsets[1][j]));
              const __half2 cosine = turns.cosine[b][j][r], sine = turns.sine[b][j][r];
              turned[j / 2][j % 2 * 2 + r] = as_word(__hfma2(x, cosine, __hneg2(__hmul2(y, sine))));
              turned[2 + j / 2][j % 2 * 2 + r] = as_word(__hfma2(y, cosine, __hmul2(x, sine)));
            }
          }
          wgmma_begin();
#pragma unroll
          for (int s = 0; s < 4; ++s) {
            const int place =
                h * TurnedQueries<D>::operand_bytes + b * operand_block_bytes(query_columns) + 32 * s;
            wgmma(scores, turned[s],
                  whole_descriptor(kept(turned_queries) + static_cast<std::uint32_t>(place) / 16), b + s > 0);
          }
          wgmma_commit();
        }
        decoder.finish(h == 0 ? stage : next_stage, 1 - h, indices, keys);
        wgmma_wait(scores);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const int row = 16 * h + 8 * r;
          if (row < left && has_query[0]) out[row] = scores[2 * r] * unit;
          if (row < left && has_query[1]) out[p.capacity + row] = scores[2 * r + 1] * unit;
        }
      }
    }
    wait_for_copies<0>();
  }
}

}  // namespace rotorquant::device
