#include "rotorquant/device/calibrated_tile.cuh"
#include "rotorquant/device/launch.cuh"

namespace rotorquant::device {
namespace {

// Keys of a warp, two to a lane: what a step of the cascade needs is then read once for two.
constexpr int lane_keys = 2, tile_keys = lane_keys * warp_size;

// What a warp has in shared memory, in this order.
struct DecodeTile {
  int columns;  // numbers of two keys: [dim + spare_slots, column_pitch]
  int levels;   // floats
  int code_bytes;

  __host__ __device__ explicit DecodeTile(const CalibratedView& codec)
      : columns((codec.dim + spare_slots) * column_pitch), levels(2) {
    for (int width = 1; width <= max_width; ++width) {
      if (codec.ends[width] > 0) levels = 2 << width;
    }
    // Bits are read by words.
    code_bytes = (tile_keys * codec.code_bytes + 4 + 15) / 16 * 16;
  }
  __host__ __device__ int level_offset() const { return (lane_keys * 4 * columns + 15) / 16 * 16; }
  __host__ __device__ int code_offset() const { return level_offset() + (4 * levels + 15) / 16 * 16; }
  __host__ __device__ std::size_t bytes() const {
    return static_cast<std::size_t>(code_offset() + code_bytes);
  }
};

struct DecodeArrays {
  float2* columns;
  float2* column;  // the lane's: coordinate i at [i column_pitch]
  float* levels;
  std::uint8_t* codes;

  __device__ DecodeArrays(const DecodeTile& tile, void* memory)
      : columns(static_cast<float2*>(memory)),
        column(columns + threadIdx.x),
        levels(reinterpret_cast<float*>(static_cast<std::uint8_t*>(memory) + tile.level_offset())),
        codes(static_cast<std::uint8_t*>(memory) + tile.code_offset()) {}
};

// The codes of a lane's two keys.
struct LaneCodes {
  const std::uint32_t* words;
  int first[lane_keys];  // bits

  __device__ LaneCodes(const CalibratedView& codec, const std::uint8_t* codes)
      : words(reinterpret_cast<const std::uint32_t*>(codes)) {
#pragma unroll
    for (int k = 0; k < lane_keys; ++k)
      first[k] = 8 * codec.code_bytes * (lane_keys * static_cast<int>(threadIdx.x) + k);
  }
  // 32 bits from `bit` on; those beyond the code are unspecified.
  __device__ std::uint32_t read(int k, int bit) const {
    const int at = first[k] + bit;
    return __funnelshift_r(words[at / 32], words[at / 32 + 1], static_cast<unsigned>(at));
  }
};

// What a code says beside the key's column.
struct KeyFields {
  int centroid = 0;
  float scale = 0.0F;
};

// Levels of positions [begin, end) of this width, in the 32 from `first` on, times their scales; or their
// symbols, to be replaced.
template <bool symbols, int width>
__device__ __forceinline__ void put_levels(const CalibratedView& codec, const DecodeArrays& arrays,
                                           const std::uint32_t (&planes)[lane_keys][max_width], int first,
                                           int begin, int end) {
#pragma unroll 4
  for (int i = begin; i < end; ++i) {
    const uint4 place = __ldg(reinterpret_cast<const uint4*>(codec.places + i));
    float value[lane_keys];
#pragma unroll
    for (int k = 0; k < lane_keys; ++k) {
      unsigned symbol = 0;
#pragma unroll
      for (int j = 0; j < width; ++j) symbol |= (planes[k][j] >> (i - first) & 1U) << j;
      if constexpr (symbols && width > 0) {
        value[k] = __uint_as_float(symbol);
      } else {
        value[k] = __fmul_rn(arrays.levels[(1 << width) + symbol], __uint_as_float(place.y));
      }
    }
    arrays.column[place.x * column_pitch] = make_float2(value[0], value[1]);
  }
}

// The same of all positions of the lane's codes, in their slots of `column`.
template <bool symbols>
__device__ __forceinline__ void read_planes(const CalibratedView& codec, const DecodeArrays& arrays,
                                            const LaneCodes& codes) {
  for (int first = 0; first < codec.dim; first += warp_size) {
    std::uint32_t planes[lane_keys][max_width];
    int start = 0;
#pragma unroll
    for (int j = 0; j < max_width; ++j) {
#pragma unroll
      for (int k = 0; k < lane_keys; ++k)
        planes[k][j] = codec.ends[j + 1] > first ? codes.read(k, start + first) : 0U;
      start += codec.ends[j + 1];
    }
    for_each_width(codec, [&](int width, int all_begin, int all_end) {
      const int begin = max(first, all_begin), end = min(first + warp_size, all_end);
      const auto put = [&](auto constant) {
        put_levels<symbols, decltype(constant)::value>(codec, arrays, planes, first, begin, end);
      };
      switch (width) {
        case 0:
          return put(std::integral_constant<int, 0>());
        case 1:
          return put(std::integral_constant<int, 1>());
        case 2:
          return put(std::integral_constant<int, 2>());
        case 3:
          return put(std::integral_constant<int, 3>());
        case 4:
          return put(std::integral_constant<int, 4>());
        case 5:
          return put(std::integral_constant<int, 5>());
        case 6:
          return put(std::integral_constant<int, 6>());
        case 7:
          return put(std::integral_constant<int, 7>());
        case 8:
          return put(std::integral_constant<int, 8>());
      }
    });
  }
}

// Values for the symbols of a trellis code (CalibratedTrellis::decode).
__device__ __forceinline__ void follow_trellis(const CalibratedView& codec,
                                               const CalibratedTrellisView& trellis,
                                               const DecodeArrays& arrays) {
  const auto place_of = [&](const UsedCoordinate& at) {
    return __ldg(reinterpret_cast<const uint4*>(codec.places + at.position));
  };
  unsigned state[lane_keys] = {};  // of a circle shorter than the register, walked more than once
  const auto step = [&](const float2& symbols) {
    state[0] = state[0] << 1 | (__float_as_uint(symbols.x) & 1U);
    state[1] = state[1] << 1 | (__float_as_uint(symbols.y) & 1U);
  };
  for (int i = trellis.memory; i > 0; --i) {
    const int last = (trellis.used - i % trellis.used) % trellis.used;
    step(arrays.column[place_of(trellis.coordinates[last]).x * column_pitch]);
  }
  const unsigned mask = (2U << trellis.memory) - 1U;
#pragma unroll 4
  for (int t = 0; t < trellis.used; ++t) {
    const UsedCoordinate at = trellis.coordinates[t];
    const uint4 place = place_of(at);
    float2& number = arrays.column[place.x * column_pitch];
    const float2 symbols = number;
    step(symbols);
    const float* const values = trellis.values + at.levels.first_value;
    const auto value = [&](float symbol, unsigned registers) {
      const unsigned level = __float_as_uint(symbol) >> 1 << (trellis.memory + 1) | (registers & mask);
      return __fmul_rn(__ldg(values + level), __uint_as_float(place.y));
    };
    number = make_float2(value(symbols.x, state[0]), value(symbols.y, state[1]));
  }
}

// Decodes the block's codes to columns x^ - c - h over n, and the fields of the lane's keys. The warp is in
// step at its end.
__device__ void decode_columns(const CalibratedView& codec, const CalibratedTrellisView& trellis,
                               const DecodeTile& tile, const DecodeArrays& arrays, const std::uint8_t* codes,
                               std::int64_t first, int count, unsigned long long* refusals,
                               KeyFields (&fields)[lane_keys]) {
  for (int i = static_cast<int>(threadIdx.x); i < tile.levels; i += warp_size)
    arrays.levels[i] = __ldg(codec.levels + i);
  copy_codes<tile_keys>(codes + first * codec.code_bytes, arrays.codes, codec.code_bytes, count);
  __syncwarp();
  const LaneCodes own(codec, arrays.codes);
  if (trellis.used > 0) {
    read_planes<true>(codec, arrays, own);
    follow_trellis(codec, trellis, arrays);
  } else {
    read_planes<false>(codec, arrays, own);
  }
#pragma unroll
  for (int k = 0; k < lane_keys; ++k) {
    fields[k].centroid =
        static_cast<int>(own.read(k, codec.centroid_bit()) & ((1U << codec.centroid_bits) - 1U));
    if (fields[k].centroid >= codec.centroid_count) {
      const int key = lane_keys * static_cast<int>(threadIdx.x) + k;
      if (key < count) refuse(refusals, first + key, Refusal::centroid);
      fields[k].centroid = 0;
    }
    fields[k].scale =
        __ldg(codec.scales + (own.read(k, codec.scale_bit()) & ((1U << codec.scale_bits) - 1U)));
  }
  run_columns(codec.backward, arrays.column);
  __syncwarp();
}

template <typename T>
__global__ void decode_kernel(const __grid_constant__ CalibratedView codec,
                              const __grid_constant__ CalibratedTrellisView trellis,
                              const std::uint8_t* codes, std::int64_t n, T* x, unsigned long long* refusals) {
  extern __shared__ uint4 memory[];
  const DecodeTile tile(codec);
  const DecodeArrays arrays(tile, memory);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * tile_keys;
  const int count = static_cast<int>(min(static_cast<std::int64_t>(tile_keys), n - first));
  KeyFields fields[lane_keys];
  decode_columns(codec, trellis, tile, arrays, codes, first, count, refusals, fields);
  for (int begin = 0; begin < codec.dim; begin += warp_size) {
    const int c = begin + static_cast<int>(threadIdx.x);
#pragma unroll 8
    for (int r = 0; r < warp_size; ++r) {
      std::int64_t centroid[lane_keys];
      float scale[lane_keys];
#pragma unroll
      for (int k = 0; k < lane_keys; ++k) {
        centroid[k] = __shfl_sync(0xFFFFFFFFU, fields[k].centroid, r);
        scale[k] = __shfl_sync(0xFFFFFFFFU, fields[k].scale, r);
      }
      if (lane_keys * r >= count || c >= codec.dim) continue;
      const float2 two = arrays.columns[c * column_pitch + r];
      const float value[lane_keys] = {two.x, two.y};
#pragma unroll
      for (int k = 0; k < lane_keys; ++k) {
        if (lane_keys * r + k >= count) break;
        x[(first + lane_keys * r + k) * codec.dim + c] =
            from_float<T>(fmaf(scale[k], value[k], __ldg(codec.offsets + centroid[k] * codec.dim + c)));
      }
    }
  }
}

__global__ void score_kernel(const __grid_constant__ CalibratedView codec,
                             const __grid_constant__ CalibratedTrellisView trellis, const float* queries,
                             std::int64_t m, const std::uint8_t* codes, std::int64_t n, float* scores,
                             unsigned long long* refusals) {
  extern __shared__ uint4 memory[];
  const DecodeTile tile(codec);
  const DecodeArrays arrays(tile, memory);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * tile_keys;
  const int count = static_cast<int>(min(static_cast<std::int64_t>(tile_keys), n - first));
  KeyFields fields[lane_keys];
  decode_columns(codec, trellis, tile, arrays, codes, first, count, refusals, fields);
  for (int c = 0; c < codec.dim; ++c) {
    float2& value = arrays.column[c * column_pitch];
    const auto offset = [&](int k) {
      return __ldg(codec.offsets + static_cast<std::int64_t>(fields[k].centroid) * codec.dim + c);
    };
    value = make_float2(fmaf(fields[0].scale, value.x, offset(0)), fmaf(fields[1].scale, value.y, offset(1)));
  }
  const int own = lane_keys * static_cast<int>(threadIdx.x);
  for (std::int64_t i = 0; i < m; ++i) {
    const float* const query = queries + i * codec.dim;
    float2 sum = make_float2(0.0F, 0.0F);
    for (int c = 0; c < codec.dim; ++c) {
      const float2 value = arrays.column[c * column_pitch];
      sum.x += __ldg(query + c) * value.x;
      sum.y += __ldg(query + c) * value.y;
    }
    if (own < count) scores[i * n + first + own] = sum.x;
    if (own + 1 < count) scores[i * n + first + own + 1] = sum.y;
  }
}

}  // namespace

void decode_calibrated_rows(cudaStream_t stream, const CalibratedView& codec,
                            const CalibratedTrellisView& trellis, const std::uint8_t* codes,
                            const DeviceTensor& x, unsigned long long* refusals) {
  dispatch_element(x.type, [&](auto element) {
    using T = decltype(element);
    launch_tiles("decode", decode_kernel<T>, stream, x.rows, tile_keys, 1, DecodeTile(codec).bytes(), codec,
                 trellis, codes, x.rows, static_cast<T*>(x.data), refusals);
  });
}

void score_calibrated_rows(cudaStream_t stream, const CalibratedView& codec,
                           const CalibratedTrellisView& trellis, const float* queries, std::int64_t m,
                           const std::uint8_t* codes, std::int64_t n, float* scores,
                           unsigned long long* refusals) {
  launch_tiles("score", score_kernel, stream, n, tile_keys, 1, DecodeTile(codec).bytes(), codec, trellis,
               queries, m, codes, n, scores, refusals);
}

}  // namespace rotorquant::device
