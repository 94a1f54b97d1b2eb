#include "rotorquant/device/calibrated_tile.cuh"
#include "rotorquant/device/launch.cuh"

namespace rotorquant::device {
namespace {

// 1 to 32 bits of a code in shared memory from `bit` on; bits beyond `end` are unspecified.
__device__ std::uint32_t read_bits(const std::uint8_t* code, int bit, int end) {
  const int last = (end - 1) / 8;
  std::uint64_t word = 0;
#pragma unroll
  for (int i = 0; i < 5; ++i) {
    const int at = bit / 8 + i;
    word |= static_cast<std::uint64_t>(code[at < last ? at : last]) << (8 * i);
  }
  return static_cast<std::uint32_t>(word >> (bit % 8));
}

// Levels of the thread's code times their scales, in their slots of `column`.
__device__ void read_levels(const CalibratedView& codec, const CalibratedArrays& arrays,
                            const std::uint8_t* code, int end) {
  for (int begin = 0; begin < codec.dim; begin += warp_size) {
    std::uint32_t planes[max_width];
    int start = 0;
#pragma unroll
    for (int k = 0; k < max_width; ++k) {
      const int there = codec.ends[k + 1] - begin;
      planes[k] = there > 0 ? read_bits(code, start + begin, end) : 0U;
      if (there > 0 && there < warp_size) planes[k] &= (1U << there) - 1U;
      start += codec.ends[k + 1];
    }
    const int positions = min(warp_size, codec.dim - begin);
#pragma unroll 4
    for (int i = 0; i < positions; ++i) {
      const uint4 place = __ldg(reinterpret_cast<const uint4*>(codec.places + begin + i));
      unsigned symbol = 0;
#pragma unroll
      for (int k = 0; k < max_width; ++k) symbol |= (planes[k] >> i & 1U) << k;
      arrays.column[place.x * column_pitch] =
          __fmul_rn(arrays.levels[place.z + symbol], __uint_as_float(place.y));
    }
  }
}
// The same of a trellis code (CalibratedTrellis::decode).
__device__ void read_trellis(const CalibratedView& codec, const CalibratedTrellisView& trellis,
                             const CalibratedArrays& arrays, const std::uint8_t* code) {
  const auto bit_at = [&](int bit) { return code[bit / 8] >> (bit % 8) & 1U; };
  const auto put = [&](int position, float value) {
    const uint4 place = __ldg(reinterpret_cast<const uint4*>(codec.places + position));
    arrays.column[place.x * column_pitch] = __fmul_rn(value, __uint_as_float(place.y));
  };
  unsigned state = 0;  // of a circle shorter than the register, walked more than once
  for (int i = trellis.memory; i > 0; --i) {
    const int last = (trellis.used - i % trellis.used) % trellis.used;
    state = state << 1 | bit_at(trellis.coordinates[last].position);
  }
  const unsigned mask = (2U << trellis.memory) - 1U;
  for (int t = 0; t < trellis.used; ++t) {
    const UsedCoordinate at = trellis.coordinates[t];
    state = (state << 1 | bit_at(at.position)) & mask;
    unsigned upper = 0;
    int start = codec.ends[1];  // of the plane
    for (int plane = 1; plane < at.width; ++plane) {
      upper |= bit_at(start + at.position) << (plane - 1);
      start += codec.ends[plane + 1];
    }
    const int level = static_cast<int>(upper << (trellis.memory + 1) | state);
    put(at.position, __ldg(trellis.values + at.levels.first_value + level));
  }
  for (int position = trellis.used; position < codec.dim; ++position) put(position, 0.0F);
}

// What a code says beside the key's column.
struct KeyFields {
  int centroid = 0;
  float scale = 0.0F;
};

// Decodes the block's codes to columns x^ - c - h over n, and their fields. The warp is in step at its end.
__device__ KeyFields decode_columns(const CalibratedView& codec, const CalibratedTrellisView& trellis,
                                    const CalibratedArrays& arrays, const std::uint8_t* codes,
                                    std::int64_t first, int count, unsigned long long* refusals) {
  arrays.load_tables(codec);
  copy_codes(codes + first * codec.code_bytes, arrays.codes, codec.code_bytes, count);
  __syncwarp();
  KeyFields fields;
  if (static_cast<int>(threadIdx.x) < count) {
    const std::uint8_t* const code = arrays.codes + threadIdx.x * codec.code_bytes;
    const int end = codec.scale_bit() + codec.scale_bits;
    trellis.used > 0 ? read_trellis(codec, trellis, arrays, code) : read_levels(codec, arrays, code, end);
    fields.centroid = static_cast<int>(codec.centroid_bits == 0 ? 0U
                                                                : read_bits(code, codec.centroid_bit(), end) &
                                                                      ((1U << codec.centroid_bits) - 1U));
    if (fields.centroid >= codec.centroid_count) {
      refuse(refusals, first + threadIdx.x, Refusal::centroid);
      fields.centroid = 0;
    }
    fields.scale = codec.scales[read_bits(code, codec.scale_bit(), end) & ((1U << codec.scale_bits) - 1U)];
    run_columns(codec.backward, arrays.column);
  }
  __syncwarp();
  return fields;
}

template <typename T>
__global__ void decode_kernel(const __grid_constant__ CalibratedView codec,
                              const __grid_constant__ CalibratedTrellisView trellis,
                              const std::uint8_t* codes, std::int64_t n, T* x, unsigned long long* refusals) {
  extern __shared__ uint4 memory[];
  const CalibratedArrays arrays = CalibratedTile(codec, false).at(memory);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * warp_size;
  const int count = static_cast<int>(min(static_cast<std::int64_t>(warp_size), n - first));
  const KeyFields fields = decode_columns(codec, trellis, arrays, codes, first, count, refusals);
  for (int begin = 0; begin < codec.dim; begin += warp_size) {
    const int c = begin + static_cast<int>(threadIdx.x);
#pragma unroll 8
    for (int r = 0; r < warp_size; ++r) {
      const std::int64_t centroid = __shfl_sync(0xFFFFFFFFU, fields.centroid, r);
      const float scale = __shfl_sync(0xFFFFFFFFU, fields.scale, r);
      if (r >= count || c >= codec.dim) continue;
      x[(first + r) * codec.dim + c] = from_float<T>(
          fmaf(scale, arrays.columns[c * column_pitch + r], __ldg(codec.offsets + centroid * codec.dim + c)));
    }
  }
}

__global__ void score_kernel(const __grid_constant__ CalibratedView codec,
                             const __grid_constant__ CalibratedTrellisView trellis, const float* queries,
                             std::int64_t m, const std::uint8_t* codes, std::int64_t n, float* scores,
                             unsigned long long* refusals) {
  extern __shared__ uint4 memory[];
  const CalibratedArrays arrays = CalibratedTile(codec, false).at(memory);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * warp_size;
  const int count = static_cast<int>(min(static_cast<std::int64_t>(warp_size), n - first));
  const KeyFields fields = decode_columns(codec, trellis, arrays, codes, first, count, refusals);
  if (static_cast<int>(threadIdx.x) >= count) return;
  const float* const offset = codec.offsets + static_cast<std::int64_t>(fields.centroid) * codec.dim;
  for (int c = 0; c < codec.dim; ++c) {
    float& value = arrays.column[c * column_pitch];
    value = fmaf(fields.scale, value, __ldg(offset + c));
  }
  for (std::int64_t i = 0; i < m; ++i) {
    const float* const query = queries + i * codec.dim;
    float sum = 0.0F;
    for (int c = 0; c < codec.dim; ++c) sum += __ldg(query + c) * arrays.column[c * column_pitch];
    scores[i * n + first + threadIdx.x] = sum;
  }
}

}  // namespace

void decode_calibrated_rows(cudaStream_t stream, const CalibratedView& codec,
                            const CalibratedTrellisView& trellis, const std::uint8_t* codes,
                            const DeviceTensor& x, unsigned long long* refusals) {
  dispatch_element(x.type, [&](auto element) {
    using T = decltype(element);
    launch_rows("decode", decode_kernel<T>, stream, x.rows, CalibratedTile(codec, false).bytes(), codec,
                trellis, codes, x.rows, static_cast<T*>(x.data), refusals);
  });
}

void score_calibrated_rows(cudaStream_t stream, const CalibratedView& codec,
                           const CalibratedTrellisView& trellis, const float* queries, std::int64_t m,
                           const std::uint8_t* codes, std::int64_t n, float* scores,
                           unsigned long long* refusals) {
  launch_rows("score", score_kernel, stream, n, CalibratedTile(codec, false).bytes(), codec, trellis, queries,
              m, codes, n, scores, refusals);
}

}  // namespace rotorquant::device
