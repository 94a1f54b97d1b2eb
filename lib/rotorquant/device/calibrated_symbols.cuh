#pragma once
// Scalar symbols of a key whose centroid and scale are chosen, a thread a key: levels by the metric's
// diagonal, then coordinate descent of the whole form.
#include "rotorquant/device/calibrated_tile.cuh"
#include "rotorquant/device/scalar_rows.cuh"

namespace rotorquant::device {

inline constexpr int gradients_together = 16;  // coordinates of a gradient
inline constexpr int updates_together = 4;     // of a gradient's change

class SymbolSearch {
 public:
  __device__ SymbolSearch(const CalibratedView& codec, const CalibratedArrays& arrays)
      : codec_(codec), a_(arrays) {}

  // Symbols of the key at this choice; `column` and `other` are scratch from here on.
  __device__ void find(const KeyChoice& choice) const {
    const float scale = codec_.scales[choice.scale_code], inverse = __fdiv_rn(1.0F, scale);
    const float* const centroid = codec_.transformed + choice.centroid;
    for_each_width(codec_, [&](int width, int begin, int end) {
#pragma unroll 4
      for (int i = begin; i < end; ++i) {
        float error = __fsub_rn(a_.other[i * column_pitch],
                                __ldg(centroid + static_cast<std::int64_t>(i) * codec_.centroid_stride));
        if (width > 0) {
          const unsigned symbol = index_of(a_.boundaries + (1 << width), width, __fmul_rn(error, inverse));
          a_.symbols[i * warp_size] = static_cast<std::uint8_t>(symbol);
          error = __fsub_rn(error, __fmul_rn(scale, a_.levels[(1 << width) + symbol]));
        }
        a_.column[i * column_pitch] = error;
      }
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
      const int count = codec_.ends[plane + 1];
      int i = 0;
      for (; i + 8 <= count; i += 8) {
        unsigned bits = 0;
#pragma unroll
        for (int k = 0; k < 8; ++k) bits |= (a_.symbols[(i + k) * warp_size] >> plane & 1U) << k;
        append(bits, 8);
      }
      for (; i < count; ++i) append(a_.symbols[i * warp_size] >> plane & 1U, 1);
    }
    append(static_cast<unsigned>(choice.centroid), codec_.centroid_bits);
    append(static_cast<unsigned>(choice.scale_code), codec_.scale_bits);
    if (fill > 0) *to = static_cast<std::uint8_t>(pending);
  }

 private:
  // `other` = metric times `column`.
  __device__ void find_gradient() const {
    for (int begin = 0; begin < codec_.dim; begin += gradients_together) {
      float sums[gradients_together] = {};
#pragma unroll 2
      for (int k = 0; k < codec_.dim; ++k) {
        const float error = a_.column[k * column_pitch];
        float row[gradients_together];
        load_together(codec_.metric + static_cast<std::int64_t>(k) * codec_.metric_stride + begin, row);
#pragma unroll
        for (int c = 0; c < gradients_together; ++c) sums[c] = __fadd_rn(sums[c], __fmul_rn(error, row[c]));
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
    for_each_width(codec_, [&](int width, int begin, int end) {
      if (width == 0) return;
      const float* const levels = a_.levels + (1 << width);
      for (int i = begin; i < end; ++i) {
        const unsigned before = a_.symbols[i * warp_size];
        const float target = __fadd_rn(__fmul_rn(scale, levels[before]),
                                       __fdiv_rn(a_.other[i * column_pitch], __ldg(codec_.diagonal + i)));
        const unsigned symbol = index_of(a_.boundaries + (1 << width), width, __fmul_rn(target, inverse));
        if (symbol == before) continue;
        const float step = __fmul_rn(scale, __fsub_rn(levels[symbol], levels[before]));
        a_.symbols[i * warp_size] = static_cast<std::uint8_t>(symbol);
        const float* const row = codec_.metric + static_cast<std::int64_t>(i) * codec_.metric_stride;
#pragma unroll 2
        for (int j = 0; j < codec_.dim; j += updates_together) {
          float factors[updates_together];
          load_together(row + j, factors);
#pragma unroll
          for (int k = 0; k < updates_together; ++k) {
            if (j + k >= codec_.dim) break;
            float& gradient = a_.other[(j + k) * column_pitch];
            gradient = __fsub_rn(gradient, __fmul_rn(step, factors[k]));
          }
        }
        changed = true;
      }
    });
    return changed;
  }

  const CalibratedView& codec_;
  const CalibratedArrays& a_;
};

}  // namespace rotorquant::device
