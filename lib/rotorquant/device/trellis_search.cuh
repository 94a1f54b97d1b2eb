#pragma once
// What the encoder of the value format searches the trellis with, and the packing of what it found.
#include "rotorquant/device/scalar_rows.cuh"
#include "rotorquant/device/trellis_encode.cuh"
#include "rotorquant/device/trellis_recursion.cuh"

namespace rotorquant::device::trellis_search {

inline constexpr int scale_codes = 256;

// What a block has in shared memory: first what its warps share, then each warp's own.
struct EncodeLayout {
  int pitch;      // words between vectors: of rows and of survivors
  int row_words;  // of all rows; a dense rotation needs as many again
  int survivor_pitch, survivor_words;
  int step_words;
  int code_pitch;  // words between packed vectors
  int warp_words;
  int table_words;

  __host__ __device__ EncodeLayout(const TrellisView& t, const RotationView& r, int batch, bool share_tables)
      : pitch(row_pitch(t.dim)),
        row_words(r.rows() * batch * pitch),
        survivor_pitch(pitch > seam_context ? pitch : seam_context | 1),
        survivor_words(batch * survivor_pitch),
        step_words(together * 2 * (t.dim > 2 * seam_context ? t.dim : 2 * seam_context)),
        code_pitch((t.bytes_per_vector + 3) / 4 | 1),
        warp_words((row_words + survivor_words + batch * code_pitch + step_words + 3) / 4 * 4),
        table_words(scale_codes + (share_tables ? (t.value_count + 3) / 4 * 4 + 2 * t.row_count : 0)) {}
  std::size_t bytes(int warps) const {
    return 4U * static_cast<std::size_t>(table_words + warps * warp_words);
  }
};

template <int memory, bool shared_tables>
struct Encoder {
  static constexpr int states = 1 << memory;
  using Step = float2;
  const TrellisView& t;
  const EncodeLayout& layout;
  const float* scales;       // shared [256]
  const float* values;       // [value_count]
  const uint2* shared_rows;  // [row_count] where tables are shared
  float2* steps;  // [together, step_words / 2]: the normalized coordinate and the number of its row

  __device__ __forceinline__ float4 row(int number) const {
    if constexpr (shared_tables) return unpack_row(shared_rows[number]);
    return __ldg(t.rows + number);
  }
  __device__ __forceinline__ const TrellisWidthView& width_at(int c) const {
    return t.width[__ldg(t.extra + c) == no_extra_bit ? 0 : 1];
  }
  __device__ __forceinline__ float2* steps_of(int which) const {
    return steps + which * (layout.step_words / 2 / together);
  }

  // Steps from `at` on: `count` coordinates from `first` on of a vector with that inverse scale.
  __device__ void prepare(int which, int at, const float* y, float inverse, int first, int count) const {
    const int lane = static_cast<int>(threadIdx.x % warp_size);
    float2* const out = steps_of(which) + at;
    for (int i = lane; i < count; i += warp_size) {
      const int c = first + i;
      const float value = __fmul_rn(y[c], inverse);
      const TrellisWidthView& width = width_at(c);
      out[i] = make_float2(value, __int_as_float(width.first_row + cell_of(width.cells, value) * states));
    }
  }

  __device__ __forceinline__ float2 distortions(const float2& at, int q) const {
    return distortions_of(at.x, row(__float_as_int(at.y) + q));
  }

  // `count` steps from step `begin` on for all vectors. survivors[j] may be nullptr.
  __device__ void forward(int begin, int count, float (&cost)[together],
                          std::uint32_t* const (&survivors)[together]) const {
    const float2* at[together];
#pragma unroll
    for (int j = 0; j < together; ++j) at[j] = steps_of(j) + begin;
    Recursion<memory, Encoder>(*this).forward(at, count, cost, survivors);
  }

  // Follows the path of one vector back from the seam. Each word of survivors gives way to the place of the
  // decoded value among the values.
  __device__ void trace(const float* y, float inverse, int seam, std::uint32_t* survivors) const {
    int state = seam;
    for (int c = t.dim - 1; c >= 0; --c) {
      const int previous = state_before(memory, state, survivors[c]);
      const int r = previous << 1 | (state & 1);
      const float value = __fmul_rn(y[c], inverse);
      const TrellisWidthView& width = width_at(c);
      const int cell = cell_of(width.cells, value);
      const float4 levels = row(width.first_row + cell * states + r % states);
      const bool upper = value > (r < states ? levels.x : levels.z);
      const int u = __ldg(t.choices + width.first_choice + 4 * states * cell + (upper ? 2 * states : 0) + r);
      survivors[c] = static_cast<std::uint32_t>(width.first_value + (u << (memory + 1)) + r);
      state = previous;
    }
  }
};

// lower_bound over the scales (TrellisValueFormat::nearest_scale_code).
__device__ inline int nearest_scale_code(const float* scales, double scale) {
  int above = 0;
  for (int step = scale_codes / 2; step > 0; step /= 2) {
    if (static_cast<double>(scales[above + step - 1]) < scale) above += step;
  }
  if (static_cast<double>(scales[above]) < scale) return scale_codes - 1;
  if (above == 0) return 0;
  const double high = scales[above], low = scales[above - 1];
  return high - scale < scale - low ? above : above - 1;
}

// Sum of a(t) b(t) in the order of trellis_value_format.cpp.
template <typename A, typename B>
__device__ inline double inner_product(int dim, const A& a, const B& b) {
  double partial[8] = {};
  for (int first = 0; first < dim; first += 8) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (first + i < dim) {
        partial[i] = __dadd_rn(
            partial[i], __dmul_rn(static_cast<double>(a(first + i)), static_cast<double>(b(first + i))));
      }
    }
  }
  double sum = 0.0;
#pragma unroll
  for (int i = 0; i < 8; ++i) sum = __dadd_rn(sum, partial[i]);
  return sum;
}

// Packs one vector, whose places of values (trace) are given, by the whole warp.
template <int memory>
__device__ inline void pack_vector(const TrellisView& t, const std::uint32_t* places, unsigned scale_code,
                                   std::uint32_t* words, int word_count) {
  const int lane = static_cast<int>(threadIdx.x % warp_size);
  for (int i = lane; i < word_count; i += warp_size) words[i] = 0;
  __syncwarp();
  for (int first = 0; first < t.dim; first += warp_size) {
    const int c = first + lane;
    unsigned symbol = 0, extra = 0;
    if (c < t.dim) {
      const unsigned extra_bit = __ldg(t.extra + c);
      const TrellisWidthView& width = t.width[extra_bit == no_extra_bit ? 0 : 1];
      const unsigned place = places[c] - static_cast<unsigned>(width.first_value);
      symbol = place >> (memory + 1) << 1 | (place & 1U);
      if (extra_bit != no_extra_bit) extra = ((symbol >> t.bits) & 1U) << (8 + extra_bit);
    }
    extra = __reduce_or_sync(all_lanes, extra);
    std::uint32_t plane = 0;  // lane k: plane k of these coordinates
    for (int k = 0; k < t.bits; ++k) {
      const std::uint32_t word = __ballot_sync(all_lanes, (symbol >> k) & 1U);
      if (lane == k) plane = word;
    }
    if (lane < t.bits) {
      int at = lane * t.dim + first;
      if (lane == 0) {
        plane = __brev(plane);
        at = t.dim - warp_size - first;
        if (at < 0) plane >>= -at, at = 0;
      }
      put_bits(words, 8 * trellis_header_bytes + at, plane);
    }
    if (lane == 0) atomicOr(words, extra | (first == 0 ? scale_code : 0U));
  }
  __syncwarp();
}

}  // namespace rotorquant::device::trellis_search
