// The encoder of calibrated_rows.cuh: calibrated_encoder.cpp's search, a thread a key.
#include "rotorquant/device/calibrated_rows.cuh"
#include "rotorquant/device/elements.cuh"
#include "rotorquant/device/launch.cuh"
#include "rotorquant/device/refusals.cuh"
#include "rotorquant/device/scalar_rows.cuh"

namespace rotorquant::device {
namespace {

constexpr int scales_together = 5;     // scale codes whose costs are summed at a time
constexpr int gradients_together = 8;  // coordinates of a gradient

// A centroid and a scale code, and what their best symbols cost.
struct KeyChoice {
  float cost = INFINITY;
  int centroid = 0;
  int scale_code = 0;
};

class KeyEncoder {
 public:
  __device__ KeyEncoder(const CalibratedView& codec, const CalibratedArrays& arrays)
      : codec_(codec), a_(arrays) {}

  // `column` has x - h; makes `other` F (x - h) / sigma. Whether all of it is finite.
  __device__ bool transform() const {
    for (int i = 0; i < codec_.dim; ++i) {
      a_.other[__ldg(codec_.forward.slots + i) * column_pitch] =
          __fmul_rn(__ldg(codec_.forward.scales + i), a_.column[i * column_pitch]);
    }
    run_columns(codec_.forward, a_.other);
    bool finite = true;
    for (int i = 0; i < codec_.dim; ++i) finite &= isfinite(a_.other[i * column_pitch]) != 0;
    return finite;
  }

  // The nearest centroid at its nearest scale, without a cost.
  __device__ KeyChoice nearest() const {
    KeyChoice choice;
    double shortest = INFINITY;
    for (int k = 0; k < codec_.centroid_count; ++k) {
      const double distance = squared_distance(k, codec_.shift);
      if (distance < shortest) {
        shortest = distance;
        choice.centroid = k;
      }
    }
    choice.scale_code = scale_code_of(choice.centroid);
    return choice;
  }

  // The cheapest pair by the metric's diagonal (CalibratedCodec::search_pairs).
  __device__ KeyChoice cheapest() const {
    if (codec_.centroid_choices == 0) return around(nearest());
    const int most = codec_.centroid_choices;
    for (int k = 0; k < codec_.centroid_count; ++k) {
      const float scale[1] = {codec_.scales[scale_code_of(k)]};
      float cost[1];
      level_costs(codec_.transformed + static_cast<std::int64_t>(k) * codec_.dim, scale, cost);
      // The cheapest ones in order, of equal ones those that came first.
      int place = min(k, most);
      for (; place > 0 && cost[0] < a_.costs[(place - 1) * warp_size]; --place) {
        if (place == most) continue;
        a_.costs[place * warp_size] = a_.costs[(place - 1) * warp_size];
        a_.choices[place * warp_size] = a_.choices[(place - 1) * warp_size];
      }
      if (place == most) continue;
      a_.costs[place * warp_size] = cost[0];
      a_.choices[place * warp_size] = k;
    }
    const int tried = min(codec_.centroid_count, most);
    KeyChoice best;
    for (int t = 0; t < tried; ++t) {
      const int centroid = a_.choices[t * warp_size];
      const KeyChoice choice = around({INFINITY, centroid, scale_code_of(centroid)});
      if (choice.cost < best.cost) best = choice;
    }
    return best;
  }

  // Symbols of the key at this choice; `column` and `other` are scratch from here on.
  __device__ void find_symbols(const KeyChoice& choice) const {
    const float scale = codec_.scales[choice.scale_code], inverse = __fdiv_rn(1.0F, scale);
    const float* const centroid =
        codec_.transformed + static_cast<std::int64_t>(choice.centroid) * codec_.dim;
    for_each_coordinate([&](int i, int width) {
      float error = __fsub_rn(a_.other[i * column_pitch], __ldg(centroid + i));
      if (width > 0) {
        const unsigned symbol = index_of(a_.boundaries + (1 << width), width, __fmul_rn(error, inverse));
        a_.symbols[i * warp_size] = static_cast<std::uint8_t>(symbol);
        error = __fsub_rn(error, __fmul_rn(scale, a_.levels[(1 << width) + symbol]));
      }
      a_.column[i * column_pitch] = error;
    });
    if (codec_.descent_sweeps == 0) return;
    find_gradient();
    for (int sweep = 0; sweep < codec_.descent_sweeps && descend_once(scale, inverse); ++sweep) {
    }
  }

  __device__ void write(const KeyChoice& choice) const {
    std::uint8_t* to = a_.codes + threadIdx.x * codec_.code_bytes;
    std::uint32_t pending = 0;
    int fill = 0;
    const auto append = [&](unsigned bits, int count) {
      pending |= bits << fill;
      for (fill += count; fill >= 8; fill -= 8) {
        *to++ = static_cast<std::uint8_t>(pending);
        pending >>= 8;
      }
    };
    for (int plane = 0; plane < max_width; ++plane) {
      for (int i = 0; i < codec_.ends[plane + 1]; ++i) append(a_.symbols[i * warp_size] >> plane & 1U, 1);
    }
    append(static_cast<unsigned>(choice.centroid), codec_.centroid_bits);
    append(static_cast<unsigned>(choice.scale_code), codec_.scale_bits);
    if (fill > 0) *to = static_cast<std::uint8_t>(pending);
  }

 private:
  // Of x and a centroid, given x - h, or of x - h without `offset` (squared_distance).
  __device__ double squared_distance(int centroid, const float* offset) const {
    const float* const place = codec_.centroids + static_cast<std::int64_t>(centroid) * codec_.dim;
    double lanes[8] = {};
    for (int i = 0; i < codec_.dim; i += 8) {
#pragma unroll
      for (int lane = 0; lane < 8; ++lane) {
        if (i + lane >= codec_.dim) break;
        float difference = __fsub_rn(a_.column[(i + lane) * column_pitch], __ldg(place + i + lane));
        if (offset != nullptr) difference = __fadd_rn(difference, __ldg(offset + i + lane));
        const double wide = difference;
        lanes[lane] = __dadd_rn(lanes[lane], __dmul_rn(wide, wide));
      }
    }
    return __dadd_rn(__dadd_rn(__dadd_rn(lanes[0], lanes[4]), __dadd_rn(lanes[2], lanes[6])),
                     __dadd_rn(__dadd_rn(lanes[1], lanes[5]), __dadd_rn(lanes[3], lanes[7])));
  }

  __device__ int scale_code_of(int centroid) const {
    const double energy = fmax(squared_distance(centroid, nullptr), codec_.least_energy);
    int code = 0;
    for (int bit = codec_.scale_bits - 1; bit >= 0; --bit) {
      const int step = 1 << bit;
      if (codec_.energies[code + step - 1] <= energy) code += step;
    }
    return code;
  }

  // body(i, width) of every coordinate in storage order.
  template <typename Body>
  __device__ void for_each_coordinate(const Body& body) const {
    int i = 0;
    for (int width = max_width; width >= 0; --width) {
      for (; i < codec_.ends[width]; ++i) body(i, width);
    }
  }

  // Of `other` less that, at these scales (level_costs of level_search.hpp).
  template <int count>
  __device__ void level_costs(const float* less, const float (&scale)[count], float (&cost)[count]) const {
    float inverse[count];
#pragma unroll
    for (int s = 0; s < count; ++s) {
      inverse[s] = __fdiv_rn(1.0F, scale[s]);
      cost[s] = 0.0F;
    }
    for_each_coordinate([&](int i, int width) {
      const float y = __fsub_rn(a_.other[i * column_pitch], __ldg(less + i));
      const float weight = __ldg(codec_.diagonal + i);
#pragma unroll
      for (int s = 0; s < count; ++s) {
        float error = y;
        if (width > 0) {
          const unsigned symbol = index_of(a_.boundaries + (1 << width), width, __fmul_rn(y, inverse[s]));
          error = fmaf(-scale[s], a_.levels[(1 << width) + symbol], y);
        }
        cost[s] = fmaf(__fmul_rn(weight, error), error, cost[s]);
      }
    });
  }

  // The cheapest scale code around this choice's.
  __device__ KeyChoice around(const KeyChoice& choice) const {
    KeyChoice best{INFINITY, choice.centroid, choice.scale_code};
    const int last = (1 << codec_.scale_bits) - 1;
    for (int first = -codec_.scale_radius; first <= codec_.scale_radius; first += scales_together) {
      float scale[scales_together], cost[scales_together];
#pragma unroll
      for (int s = 0; s < scales_together; ++s)
        scale[s] = codec_.scales[min(max(choice.scale_code + first + s, 0), last)];
      level_costs(codec_.transformed + static_cast<std::int64_t>(choice.centroid) * codec_.dim, scale, cost);
#pragma unroll
      for (int s = 0; s < scales_together; ++s) {
        const int code = choice.scale_code + first + s;
        if (first + s <= codec_.scale_radius && code >= 0 && code <= last && cost[s] < best.cost)
          best = {cost[s], choice.centroid, code};
      }
    }
    return best;
  }

  // `other` = metric times `column`.
  __device__ void find_gradient() const {
    for (int begin = 0; begin < codec_.dim; begin += gradients_together) {
      float sums[gradients_together] = {};
      for (int k = 0; k < codec_.dim; ++k) {
        const float error = a_.column[k * column_pitch];
#pragma unroll
        for (int c = 0; c < gradients_together; ++c) {
          if (begin + c < codec_.dim)
            sums[c] = __fadd_rn(
                sums[c], __fmul_rn(error, __ldg(codec_.metric + static_cast<std::int64_t>(k) * codec_.dim +
                                                begin + c)));
        }
      }
#pragma unroll
      for (int c = 0; c < gradients_together; ++c) {
        if (begin + c < codec_.dim) a_.other[(begin + c) * column_pitch] = sums[c];
      }
    }
  }

  // descend_once of level_search.hpp over the gradient in `other`.
  __device__ bool descend_once(float scale, float inverse) const {
    bool changed = false;
    for_each_coordinate([&](int i, int width) {
      if (width == 0) return;
      const float* const levels = a_.levels + (1 << width);
      const unsigned before = a_.symbols[i * warp_size];
      const float target = __fadd_rn(__fmul_rn(scale, levels[before]),
                                     __fdiv_rn(a_.other[i * column_pitch], __ldg(codec_.diagonal + i)));
      const unsigned symbol = index_of(a_.boundaries + (1 << width), width, __fmul_rn(target, inverse));
      if (symbol == before) return;
      const float step = __fmul_rn(scale, __fsub_rn(levels[symbol], levels[before]));
      a_.symbols[i * warp_size] = static_cast<std::uint8_t>(symbol);
      const float* const row = codec_.metric + static_cast<std::int64_t>(i) * codec_.dim;
      for (int j = 0; j < codec_.dim; ++j) {
        float& gradient = a_.other[j * column_pitch];
        gradient = __fsub_rn(gradient, __fmul_rn(step, __ldg(row + j)));
      }
      changed = true;
    });
    return changed;
  }

  const CalibratedView& codec_;
  const CalibratedArrays& a_;
};

// searches: more than the nearest centroid and scale (CalibratedSearch).
template <typename T>
__global__ void encode_kernel(const __grid_constant__ CalibratedView codec, bool searches, const T* x,
                              std::int64_t n, std::uint8_t* codes, unsigned long long* refusals) {
  extern __shared__ uint4 memory[];
  const CalibratedTile tile(codec, true);
  const CalibratedArrays arrays(tile, reinterpret_cast<std::uint8_t*>(memory));
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * warp_size;
  const int count = static_cast<int>(min(static_cast<std::int64_t>(warp_size), n - first));
  arrays.load_tables(codec);
  for (int r = 0; r < count; ++r) {
    bool finite = true;
    for (int c = static_cast<int>(threadIdx.x); c < codec.dim; c += warp_size) {
      const float value = to_float(x[(first + r) * codec.dim + c]);
      finite &= isfinite(value) != 0;
      arrays.columns[c * column_pitch + r] = __fsub_rn(value, __ldg(codec.shift + c));
    }
    if (!finite) refuse(refusals, first + r, Refusal::value);
  }
  __syncwarp();
  if (static_cast<int>(threadIdx.x) < count) {
    const KeyEncoder encoder(codec, arrays);
    if (!encoder.transform()) refuse(refusals, first + threadIdx.x, Refusal::transform);
    const KeyChoice choice = searches ? encoder.cheapest() : encoder.nearest();
    if (searches && !(choice.cost < INFINITY)) refuse(refusals, first + threadIdx.x, Refusal::cost);
    encoder.find_symbols(choice);
    encoder.write(choice);
  }
  __syncwarp();
  const std::int64_t bytes = static_cast<std::int64_t>(count) * codec.code_bytes;
  for (std::int64_t i = threadIdx.x; i < bytes; i += warp_size)
    codes[first * codec.code_bytes + i] = arrays.codes[i];
}

}  // namespace

void encode_calibrated_rows(cudaStream_t stream, const CalibratedView& codec, const ConstDeviceTensor& x,
                            std::uint8_t* codes, unsigned long long* refusals) {
  const bool searches = codec.centroid_choices > 0 || codec.scale_radius > 0 || codec.descent_sweeps > 0;
  dispatch_element(x.type, [&](auto element) {
    using T = decltype(element);
    launch_rows("encode", encode_kernel<T>, stream, x.rows, CalibratedTile(codec, true).bytes(), codec,
                searches, static_cast<const T*>(x.data), x.rows, codes, refusals);
  });
}

}  // namespace rotorquant::device
