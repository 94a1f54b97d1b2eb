#pragma once
// A warp's 32 calibrated keys in shared memory, and what encoders and decoders do with them
// (calibrated_rows.cuh).
#include "rotorquant/device/calibrated_rows.cuh"
#include "rotorquant/device/elements.cuh"
#include "rotorquant/device/refusals.cuh"

namespace rotorquant::device {

// Columns of a warp's 32 keys: coordinate i of the thread's at [column_pitch * i]. The pitch keeps both a
// column and a row in 32 banks.
inline constexpr int column_pitch = warp_size + 1;

// The warp's arrays; `column`, `other`, `costs`, `choices` and `symbols` are the thread's.
struct CalibratedArrays {
  float *levels, *boundaries;
  float *columns, *column, *other;
  float* costs;  // [choices, 32]
  int* choices;  // the same
  std::uint8_t* codes;
  std::uint8_t* symbols;  // [dim, 32]

  __device__ void load_tables(const CalibratedView& codec) const {
    for (int i = static_cast<int>(threadIdx.x); i < level_table; i += warp_size) {
      levels[i] = codec.levels[i];
      boundaries[i] = codec.boundaries[i];
    }
  }
};

// What a warp that encodes has in shared memory, in this order.
struct CalibratedTile {
  int columns;     // floats of one of two arrays
  int choices;     // centroids with a full search
  int code_bytes;  // of 32 keys
  int symbols;

  __host__ __device__ explicit CalibratedTile(const CalibratedView& codec)
      : columns((codec.dim + spare_slots) * column_pitch),
        choices(codec.tried_centroids()),
        code_bytes((warp_size * codec.code_bytes + 15) / 16 * 16),
        symbols(codec.dim * warp_size) {}
  __host__ __device__ int choice_offset() const { return 4 * 2 * (level_table + columns); }
  __host__ __device__ int code_offset() const {
    return (choice_offset() + 2 * 4 * warp_size * choices + 15) / 16 * 16;
  }
  __host__ __device__ int symbol_offset() const { return code_offset() + code_bytes; }
  __host__ __device__ std::size_t bytes() const {
    return static_cast<std::size_t>(symbol_offset() + symbols);
  }

  __device__ CalibratedArrays at(void* memory) const {
    auto* const bytes_of = static_cast<std::uint8_t*>(memory);
    auto* const floats = static_cast<float*>(memory);
    float* const first = floats + 2 * level_table;
    auto* const costs = reinterpret_cast<float*>(bytes_of + choice_offset()) + threadIdx.x;
    return {floats,
            floats + level_table,
            first,
            first + threadIdx.x,
            first + columns + threadIdx.x,
            costs,
            reinterpret_cast<int*>(costs + warp_size * choices),
            bytes_of + code_offset(),
            bytes_of + symbol_offset() + threadIdx.x};
  }
};

// factor x + y, rounded once, of one key or of two.
__device__ __forceinline__ float multiply_add(float factor, float x, float y) {
  return fmaf(factor, x, y);
}
__device__ __forceinline__ float2 multiply_add(float factor, const float2& x, const float2& y) {
  return make_float2(fmaf(factor, x.x, y.x), fmaf(factor, x.y, y.y));
}

// Steps of a group, in registers.
struct StepGroup {
  uint4 slots[steps_together], low[steps_together];
  uint2 high[steps_together];

  __device__ void load(const ColumnProgram& program, int group) {
    const auto* const words = reinterpret_cast<const uint4*>(program.steps + group * steps_together);
#pragma unroll
    for (int s = 0; s < steps_together; ++s) {
      slots[s] = __ldg(words + 3 * s);
      low[s] = __ldg(words + 3 * s + 1);
      high[s] = __ldg(reinterpret_cast<const uint2*>(words + 3 * s + 2));
    }
  }
};

// The thread's columns, of one key or of two, through the cascade (run_steps). The next group's steps come
// while one runs.
template <typename Number>
__device__ inline void run_columns(const ColumnProgram& program, Number* column) {
  if (program.group_count == 0) return;
  StepGroup next;
  next.load(program, 0);
  for (int group = 0; group < program.group_count; ++group) {
    const StepGroup now = next;
    next.load(program, min(group + 1, program.group_count - 1));
    Number in[steps_together][3];
#pragma unroll
    for (int s = 0; s < steps_together; ++s) {
      in[s][0] = column[now.slots[s].x * column_pitch];
      in[s][1] = column[now.slots[s].y * column_pitch];
      in[s][2] = column[now.slots[s].z * column_pitch];
    }
#pragma unroll
    for (int s = 0; s < steps_together; ++s) {
      const Number x = in[s][0], y = in[s][1], z = in[s][2];
      const uint4 low = now.low[s];
      const uint2 high = now.high[s];
      column[now.slots[s].x * column_pitch] =
          multiply_add(__uint_as_float(low.y), z, multiply_add(__uint_as_float(low.x), y, x));
      column[now.slots[s].y * column_pitch] =
          multiply_add(__uint_as_float(low.w), z, multiply_add(__uint_as_float(low.z), x, y));
      column[now.slots[s].z * column_pitch] =
          multiply_add(__uint_as_float(high.y), y, multiply_add(__uint_as_float(high.x), x, z));
    }
  }
}

// Bytes between global and a warp's shared memory, 16 at a time for all codes of a tile; fewer ones byte by
// byte.
template <int tile>
__device__ inline void copy_codes(const std::uint8_t* from, std::uint8_t* to, int code_bytes, int count) {
  const int lane = static_cast<int>(threadIdx.x);
  if (count == tile) {
#pragma unroll 4
    for (int i = lane; i < tile * code_bytes / 16; i += warp_size)
      reinterpret_cast<uint4*>(to)[i] = reinterpret_cast<const uint4*>(from)[i];
  } else {
    for (int i = lane; i < count * code_bytes; i += warp_size) to[i] = from[i];
  }
}

// Numbers of a table's column next to each other, the same for all threads.
template <int count>
__device__ inline void load_together(const float* from, float (&to)[count]) {
  static_assert(count % 4 == 0);
#pragma unroll
  for (int i = 0; i < count; i += 4) {
    const float4 four = __ldg(reinterpret_cast<const float4*>(from + i));
    to[i] = four.x;
    to[i + 1] = four.y;
    to[i + 2] = four.z;
    to[i + 3] = four.w;
  }
}

// body(width, begin, end) of every width's coordinates in storage order.
template <typename Body>
__device__ inline void for_each_width(const CalibratedView& codec, const Body& body) {
  int begin = 0;
  for (int width = max_width; width >= 0; --width) {
    if (codec.ends[width] > begin) body(width, begin, codec.ends[width]);
    begin = codec.ends[width];
  }
}

// x - h of the block's keys as columns; refuses rows that are not finite. The warp is in step at its end.
template <typename T>
__device__ inline void load_shifted(const CalibratedView& codec, const T* x, std::int64_t first, int count,
                                    float* columns, unsigned long long* refusals) {
  unsigned infinite = 0;  // rows, a bit each
  for (int begin = 0; begin < codec.dim; begin += warp_size) {
    const int c = begin + static_cast<int>(threadIdx.x);
    const float moved = c < codec.dim ? __ldg(codec.shift + c) : 0.0F;
#pragma unroll 8
    for (int r = 0; r < warp_size; ++r) {
      if (r >= count || c >= codec.dim) continue;
      const float value = to_float(x[(first + r) * codec.dim + c]);
      infinite |= isfinite(value) != 0 ? 0U : 1U << r;
      columns[c * column_pitch + r] = __fsub_rn(value, moved);
    }
  }
  infinite = __reduce_or_sync(0xFFFFFFFFU, infinite);
  if (infinite >> threadIdx.x & 1U) refuse(refusals, first + threadIdx.x, Refusal::value);
  __syncwarp();
}

// A centroid and a scale code, and what their best symbols cost.
struct KeyChoice {
  float cost = INFINITY;
  int centroid = 0;
  int scale_code = 0;

  static constexpr int code_bits = 16;  // of a scale code, at most
  __device__ int pack() const { return centroid << code_bits | scale_code; }
  static __device__ KeyChoice unpack(int pair) {
    return {INFINITY, pair >> code_bits, pair & ((1 << code_bits) - 1)};
  }
};

}  // namespace rotorquant::device
