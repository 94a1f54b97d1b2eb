#pragma once
// The search of calibrated_encoder.cpp for pairs of a centroid and a scale code, a thread a key: what they
// cost by scalar levels and the metric's diagonal.
#include "rotorquant/device/calibrated_tile.cuh"
#include "rotorquant/device/scalar_rows.cuh"

namespace rotorquant::device {

inline constexpr int scales_together = 5;  // scale codes whose costs are summed at a time

// The level nearest to y among those of a width, by boundaries that threads hold in registers where they are
// few.
template <int width>
class LevelFinder {
 public:
  __device__ LevelFinder(const float* levels, const float* boundaries) {
#pragma unroll
    for (int i = 0; i < count; ++i) levels_[i] = levels[count + i];
#pragma unroll
    for (int i = 0; i + 1 < count; ++i) boundaries_[i] = boundaries[count + i];
  }
  __device__ float operator()(float y) const {
    float level = levels_[0];
#pragma unroll
    for (int i = 0; i + 1 < count; ++i) level = boundaries_[i] < y ? levels_[i + 1] : level;
    return level;
  }

 private:
  static constexpr int count = 1 << width;
  float levels_[count], boundaries_[count];
};
// Of any width.
class LevelTableFinder {
 public:
  __device__ LevelTableFinder(const float* levels, const float* boundaries, int width)
      : levels_(levels + (1 << width)), boundaries_(boundaries + (1 << width)), width_(width) {}
  __device__ float operator()(float y) const { return levels_[index_of(boundaries_, width_, y)]; }

 private:
  const float *levels_, *boundaries_;
  int width_;
};

class PairSearch {
 public:
  __device__ PairSearch(const CalibratedView& codec, const CalibratedArrays& arrays)
      : codec_(codec), a_(arrays), distance_error_(static_cast<float>(codec.dim + 4) * 0x1p-23F) {}

  // `column` has x - h; makes `other` F (x - h) / sigma. Whether all of it is finite.
  __device__ bool transform() const {
#pragma unroll 4
    for (int i = 0; i < codec_.dim; ++i) {
      a_.other[__ldg(codec_.input_slots + i) * column_pitch] =
          __fmul_rn(__ldg(codec_.input_scales + i), a_.column[i * column_pitch]);
    }
    run_columns(codec_.forward, a_.other);
    bool finite = true;
#pragma unroll 8
    for (int i = 0; i < codec_.dim; ++i) finite &= isfinite(a_.other[i * column_pitch]) != 0;
    return finite;
  }

  // The nearest centroid at its nearest scale, without a cost.
  __device__ KeyChoice nearest() const {
    // By distances in float32, unless their errors leave another one in doubt.
    float shortest = INFINITY, second = INFINITY;
    KeyChoice choice;
    for (int first = 0; first < codec_.centroid_count; first += centroids_together) {
      float distance[centroids_together];
      rough_distances(first, codec_.shift, distance);
#pragma unroll
      for (int k = 0; k < centroids_together; ++k) {
        if (first + k >= codec_.centroid_count) break;
        if (distance[k] < shortest) {
          second = shortest;
          shortest = distance[k];
          choice.centroid = first + k;
        } else {
          second = fminf(second, distance[k]);
        }
      }
    }
    if (!(second * (1.0F - distance_error_) > shortest * (1.0F + distance_error_))) {
      double exact = INFINITY;
      for (int k = 0; k < codec_.centroid_count; ++k) {
        const double distance = squared_distance(k, codec_.shift);
        if (distance < exact) {
          exact = distance;
          choice.centroid = k;
        }
      }
    }
    choice.scale_code = exact_scale_code(choice.centroid);
    return choice;
  }

  // The centroids that CalibratedCodec::search_pairs tries, in its order, to `choices`, each at its nearest
  // scale code; returns how many, 1 or more.
  __device__ int rank() const {
    if (codec_.centroid_choices > 0) {
      rank_centroids(codec_.centroid_choices);
    } else {
      a_.choices[0] = nearest().pack();
    }
    return codec_.tried_centroids();
  }

  // offer(choice) of the scale codes around this choice's, in order.
  template <typename Offer>
  __device__ void around(const KeyChoice& choice, const Offer& offer) const {
    const int last = (1 << codec_.scale_bits) - 1;
    for (int first = -codec_.scale_radius; first <= codec_.scale_radius; first += scales_together) {
      float scale[scales_together], cost[scales_together];
#pragma unroll
      for (int s = 0; s < scales_together; ++s)
        scale[s] = codec_.scales[min(max(choice.scale_code + first + s, 0), last)];
      level_costs(scale, cost, [&](int i, float(&less)[scales_together]) {
        const float own = __ldg(codec_.transformed + static_cast<std::int64_t>(i) * codec_.centroid_stride +
                                choice.centroid);
#pragma unroll
        for (int s = 0; s < scales_together; ++s) less[s] = own;
      });
#pragma unroll
      for (int s = 0; s < scales_together; ++s) {
        const int code = choice.scale_code + first + s;
        if (first + s <= codec_.scale_radius && code >= 0 && code <= last)
          offer(KeyChoice{cost[s], choice.centroid, code});
      }
    }
  }

  // The first pair of least cost.
  __device__ KeyChoice cheapest() const {
    KeyChoice best;
    const int tried = rank();
    for (int t = 0; t < tried; ++t) {
      around(KeyChoice::unpack(a_.choices[t * warp_size]), [&](const KeyChoice& choice) {
        if (choice.cost < best.cost) best = choice;
      });
    }
    return best;
  }

 private:
  // The `most` centroids that are the cheapest at their nearest scale codes, in order, of equal ones those
  // that came first.
  __device__ void rank_centroids(int most) const {
    for (int first = 0; first < codec_.centroid_count; first += centroids_together) {
      int code[centroids_together];
      scale_codes_of(first, code);
      float scale[centroids_together], cost[centroids_together];
#pragma unroll
      for (int k = 0; k < centroids_together; ++k) scale[k] = codec_.scales[code[k]];
      level_costs(scale, cost, [&](int i, float(&less)[centroids_together]) {
        load_together(codec_.transformed + static_cast<std::int64_t>(i) * codec_.centroid_stride + first,
                      less);
      });
#pragma unroll
      for (int k = 0; k < centroids_together; ++k) {
        const int centroid = first + k;
        if (centroid >= codec_.centroid_count) break;
        int place = min(centroid, most);
        for (; place > 0 && cost[k] < a_.costs[(place - 1) * warp_size]; --place) {
          if (place == most) continue;
          a_.costs[place * warp_size] = a_.costs[(place - 1) * warp_size];
          a_.choices[place * warp_size] = a_.choices[(place - 1) * warp_size];
        }
        if (place == most) continue;
        a_.costs[place * warp_size] = cost[k];
        a_.choices[place * warp_size] = KeyChoice{cost[k], centroid, code[k]}.pack();
      }
    }
  }

  // Of x and a centroid, given x - h, or of x - h without `offset` (squared_distance of level_search.hpp).
  __device__ double squared_distance(int centroid, const float* offset) const {
    const float* const place = codec_.centroids + centroid;
    double lanes[8] = {};
    for (int i = 0; i < codec_.dim; i += 8) {
#pragma unroll
      for (int lane = 0; lane < 8; ++lane) {
        if (i + lane >= codec_.dim) break;
        float difference =
            __fsub_rn(a_.column[(i + lane) * column_pitch],
                      __ldg(place + static_cast<std::int64_t>(i + lane) * codec_.centroid_stride));
        if (offset != nullptr) difference = __fadd_rn(difference, __ldg(offset + i + lane));
        const double wide = difference;
        lanes[lane] = __dadd_rn(lanes[lane], __dmul_rn(wide, wide));
      }
    }
    return __dadd_rn(__dadd_rn(__dadd_rn(lanes[0], lanes[4]), __dadd_rn(lanes[2], lanes[6])),
                     __dadd_rn(__dadd_rn(lanes[1], lanes[5]), __dadd_rn(lanes[3], lanes[7])));
  }

  // The same for neighbouring centroids, in float32: sums of squares of the same numbers, which err by less
  // than distance_error_ of themselves.
  __device__ void rough_distances(int first, const float* offset,
                                  float (&distance)[centroids_together]) const {
#pragma unroll
    for (int k = 0; k < centroids_together; ++k) distance[k] = 0.0F;
#pragma unroll 2
    for (int i = 0; i < codec_.dim; ++i) {
      const float x = a_.column[i * column_pitch];
      float place[centroids_together];
      load_together(codec_.centroids + static_cast<std::int64_t>(i) * codec_.centroid_stride + first, place);
      const float moved = offset != nullptr ? __ldg(offset + i) : 0.0F;
#pragma unroll
      for (int k = 0; k < centroids_together; ++k) {
        const float difference = __fadd_rn(__fsub_rn(x, place[k]), moved);
        distance[k] = fmaf(difference, difference, distance[k]);
      }
    }
  }

  // The scale code of a residual of that squared norm.
  __device__ int scale_code_at(double energy) const {
    energy = fmax(energy, codec_.least_energy);
    int code = 0;
    for (int bit = codec_.scale_bits - 1; bit >= 0; --bit) {
      const int step = 1 << bit;
      if (codec_.energies[code + step - 1] <= energy) code += step;
    }
    return code;
  }
  __device__ int exact_scale_code(int centroid) const {
    return scale_code_at(squared_distance(centroid, nullptr));
  }
  // Of neighbouring centroids; exact norms only where rough ones leave a choice.
  __device__ void scale_codes_of(int first, int (&code)[centroids_together]) const {
    float energy[centroids_together];
    rough_distances(first, nullptr, energy);
#pragma unroll
    for (int k = 0; k < centroids_together; ++k) {
      const double rough = energy[k], error = distance_error_;
      code[k] = scale_code_at(rough * (1.0 - error));
      if (code[k] != scale_code_at(rough * (1.0 + error)))
        code[k] = exact_scale_code(min(first + k, codec_.centroid_count - 1));
    }
  }

  // Of `other` less some numbers at some scales (level_costs of level_search.hpp); load(i, numbers).
  template <int count, typename Load>
  __device__ void level_costs(const float (&scale)[count], float (&cost)[count], const Load& load) const {
    float inverse[count];
#pragma unroll
    for (int s = 0; s < count; ++s) {
      inverse[s] = __fdiv_rn(1.0F, scale[s]);
      cost[s] = 0.0F;
    }
    const auto add_run = [&](int begin, int end, const auto& level_of) {
      for (int i = begin; i < end; ++i) {
        const float y = a_.other[i * column_pitch], weight = __ldg(codec_.diagonal + i);
        float less[count];
        load(i, less);
#pragma unroll
        for (int s = 0; s < count; ++s) {
          const float rest = __fsub_rn(y, less[s]);
          const float error = fmaf(-scale[s], level_of(__fmul_rn(rest, inverse[s])), rest);
          cost[s] = fmaf(__fmul_rn(weight, error), error, cost[s]);
        }
      }
    };
    for_each_width(codec_, [&](int width, int begin, int end) {
      switch (width) {
        case 0:
          return add_run(begin, end, [](float) { return 0.0F; });
        case 1:
          return add_run(begin, end, LevelFinder<1>(a_.levels, a_.boundaries));
        case 2:
          return add_run(begin, end, LevelFinder<2>(a_.levels, a_.boundaries));
        case 3:
          return add_run(begin, end, LevelFinder<3>(a_.levels, a_.boundaries));
        default:
          return add_run(begin, end, LevelTableFinder(a_.levels, a_.boundaries, width));
      }
    });
  }

  const CalibratedView& codec_;
  const CalibratedArrays& a_;
  float distance_error_;  // of rough distances, of themselves
};

}  // namespace rotorquant::device
