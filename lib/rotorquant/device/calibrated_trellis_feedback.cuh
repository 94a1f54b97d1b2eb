#pragma once
// The trellis search of one key under the full metric (codes/trellis_feedback.hpp) by a warp, a state to a
// lane.
//
// Every survivor carries f of all later coordinates. Those of the next eight are in registers; the others
// wait in shared memory for the errors of the last eight steps, which travel with their survivors, and take
// them all at once: the same sums in the same order, with an eighth of the accesses.
#include "rotorquant/device/calibrated_trellis_warp.cuh"

namespace rotorquant::device {

template <int memory, bool half_rows>
class TrellisFeedbackSearch {
 public:
  static constexpr int states = 1 << memory;
  using Reader = TrellisLevelReader<half_rows>;
  using Row = typename Reader::Row;

  explicit __device__ TrellisFeedbackSearch(const TrellisWarp<half_rows>& warp, int dim)
      : warp_(warp), t_(warp.levels().t), rows_(warp.scratch()), dim_(dim), state_(lane_of_warp() % states) {}

  // The path of the pair that starts and ends in register `seam`.
  __device__ void find(const TrellisPair& pair, int seam, std::uint16_t* path) const {
    load_residual(pair);
    if (!run<false>(pair, seam)) run<true>(pair, seam);
    trace(seam, path);
  }

 private:
  static constexpr int rows_at_once = 4;

  static __device__ __forceinline__ float from_state(float value, int state) {
    return __shfl_sync(trellis_search::all_lanes, value, state);
  }
  // f of the coordinate before its step; from it on the choices of all states, then the survivors.
  __device__ float* row(int t) const { return rows_ + t * states; }
  __device__ std::uint8_t* choices(int t) const { return reinterpret_cast<std::uint8_t*>(row(t)); }
  __device__ std::uint32_t& survivors(int t) const {
    return reinterpret_cast<std::uint32_t*>(row(t))[states / 4];
  }

  // Whether all went well: `careful` where targets lie far out.
  template <bool careful>
  __device__ bool run(const TrellisPair& pair, int seam) const {
    start_feedback();
    const Scaled scaled{pair.scale, __fdiv_rn(1.0F, pair.scale)};
    float cost = state_ == seam ? 0.0F : INFINITY;
    bool well = true;
    for (int first = 0; first < t_.used; first += factors_together) {
      float errors[factors_together];
      const int ancestor = run_block<careful>(first, scaled, cost, errors, well);
      const float* factors = warp_.levels().factors + factors_before(first, t_.used);
      for (int t = first + factors_together; t < t_.used; t += rows_at_once) {
        take_errors(t, factors, ancestor, errors);
        factors += rows_at_once * factors_together;
      }
      __syncwarp();
    }
    return __all_sync(trellis_search::all_lanes, well);
  }

  __device__ void load_residual(const TrellisPair& pair) const {
    for (int k = lane_of_warp(); k < dim_; k += warp_size) warp_.residual()[k] = warp_.residual_of(pair, k);
    __syncwarp();
  }

  // f before the first step: of the coordinates without bits.
  __device__ void start_feedback() const {
    for (int first = 0; first < t_.used; first += warp_size) {
      const int t = first + lane_of_warp();
      float sum = 0.0F;
      for (int k = t_.used; k < dim_; ++k) {
        const float factor =
            t < t_.used ? __ldg(t_.initial_factors + static_cast<std::int64_t>(k - t_.used) * t_.used + t)
                        : 0.0F;
        sum = __fadd_rn(sum, __fmul_rn(warp_.residual()[k], factor));
      }
      const int count = min(warp_size, t_.used - first);
      for (int i = 0; i < count; ++i) row(first + i)[state_] = from_state(sum, i);
    }
    __syncwarp();
  }

  struct Scaled {
    float scale, inverse;
  };
  // A level and how far the target lies from it.
  struct Nearest {
    float error;
    int u;  // of the level, or its place among the choices
  };

  // The level nearest to the target as TrellisFeedback finds it, the first of least squared error. It is one
  // of the two levels of a cell: rounding errs by less than lies between their distances and the others', but
  // for targets far out.
  static constexpr float far_out = 1024.0F;
  __device__ __forceinline__ Nearest nearest_of_cell(float target, const Scaled& scaled,
                                                     const UsedCoordinate& at, const Row* rows,
                                                     bool upper_register, bool& well) const {
    const float y = __fmul_rn(target, scaled.inverse);
    well &= fabsf(y) < far_out;
    const int cell = trellis_search::cell_of(at.levels.cells, y);
    const float2 row = Reader::half_of(rows[cell * states], upper_register);
    const float low = __fsub_rn(target, __fmul_rn(scaled.scale, __fsub_rn(row.x, row.y)));
    const float high = __fsub_rn(target, __fmul_rn(scaled.scale, __fadd_rn(row.x, row.y)));
    const bool above = __fmul_rn(high, high) < __fmul_rn(low, low);
    return {above ? high : low, 4 * states * cell + (above ? 2 * states : 0) + (upper_register ? states : 0)};
  }
  __device__ Nearest nearest_of_all(float target, const Scaled& scaled, const UsedCoordinate& at,
                                    bool upper_register) const {
    const float* const levels = warp_.levels().values(at.levels) + state_ + (upper_register ? states : 0);
    Nearest best{};
#pragma unroll 1
    for (int u = 0; u < 1 << (at.width - 1); ++u) {
      const float error = __fsub_rn(target, __fmul_rn(scaled.scale, levels[u * 2 * states]));
      if (u == 0 || __fmul_rn(error, error) < __fmul_rn(best.error, best.error)) best = {error, u};
    }
    return best;
  }

  // Steps first .. first + 7. errors[i] becomes the error at step first + i of the path to this lane's state,
  // which leads through the state returned before the first step.
  template <bool careful>
  __device__ int run_block(int first, const Scaled& scaled, float& cost, float (&errors)[factors_together],
                           bool& well) const {
    float feedback[factors_together];
#pragma unroll
    for (int i = 0; i < factors_together; ++i)
      feedback[i] = first + i < t_.used ? row(first + i)[state_] : 0.0F;
    __syncwarp();
    int ancestor = state_;
#pragma unroll
    for (int i = 0; i < factors_together; ++i) {
      const int t = first + i;
      if (t >= t_.used) break;
      const UsedCoordinate at = t_.coordinates[t];
      const float y = warp_.residual()[at.position];
      const int one = state_ >> 1, two = one + states / 2;
      const float feedback_one = from_state(feedback[i], one), feedback_two = from_state(feedback[i], two);
      const Row* const rows = warp_.levels().rows(at.levels) + state_;
      const auto nearest = [&](float feedback_of, bool upper_register) {
        const float target = __fadd_rn(y, feedback_of);
        if constexpr (careful) return nearest_of_all(target, scaled, at, upper_register);
        return nearest_of_cell(target, scaled, at, rows, upper_register, well);
      };
      const Nearest by_one = nearest(feedback_one, false), by_two = nearest(feedback_two, true);
      const float cost_one =
          __fadd_rn(from_state(cost, one), __fmul_rn(at.feedback, __fmul_rn(by_one.error, by_one.error)));
      const float cost_two =
          __fadd_rn(from_state(cost, two), __fmul_rn(at.feedback, __fmul_rn(by_two.error, by_two.error)));
      const bool taken = cost_two < cost_one;
      cost = taken ? cost_two : cost_one;
      // Nearest::error holds e + f; what is fed forward is e alone.
      const float error =
          taken ? __fsub_rn(by_two.error, feedback_two) : __fsub_rn(by_one.error, feedback_one);
      const int before = taken ? two : one;
      int u = taken ? by_two.u : by_one.u;
      if constexpr (!careful) u = __ldg(t_.choices + at.levels.first_choice + state_ + u);
      choices(t)[state_] = static_cast<std::uint8_t>(u);
      const unsigned word = __ballot_sync(trellis_search::all_lanes, taken);
      if (lane_of_warp() == 0) survivors(t) = word;
      float factors[factors_together];
      load_together(t_.next_factors + static_cast<std::int64_t>(t) * factors_together, factors);
#pragma unroll
      for (int later = i + 1; later < factors_together; ++later)
        feedback[later] = __fadd_rn(from_state(feedback[later], before), __fmul_rn(factors[later], error));
#pragma unroll
      for (int past = 0; past < i; ++past) errors[past] = from_state(errors[past], before);
      errors[i] = error;
      ancestor = __shfl_sync(trellis_search::all_lanes, ancestor, before);
    }
    return ancestor;
  }

  // Of a row, from memory of either kind.
  static __device__ __forceinline__ void load_factors(const float* from, float (&to)[factors_together]) {
#pragma unroll
    for (int i = 0; i < factors_together; i += 4) {
      const float4 four = *reinterpret_cast<const float4*>(from + i);
      to[i] = four.x;
      to[i + 1] = four.y;
      to[i + 2] = four.z;
      to[i + 3] = four.w;
    }
  }

  // f of coordinates t .. t + 3 takes the errors of the last block by these factors.
  __device__ void take_errors(int t, const float* from, int ancestor,
                              const float (&errors)[factors_together]) const {
    float sums[rows_at_once];
#pragma unroll
    for (int r = 0; r < rows_at_once; ++r) sums[r] = row(min(t + r, t_.used - 1))[ancestor];
    __syncwarp();
#pragma unroll
    for (int r = 0; r < rows_at_once; ++r) {
      if (t + r >= t_.used) break;
      float factors[factors_together];
      load_factors(from + r * factors_together, factors);
#pragma unroll
      for (int i = 0; i < factors_together; ++i)
        sums[r] = __fadd_rn(sums[r], __fmul_rn(factors[i], errors[i]));
      row(t + r)[state_] = sums[r];
    }
  }

  // All lanes go back; lane i of a chunk of steps takes the place at the i-th.
  __device__ void trace(int seam, std::uint16_t* path) const {
    int state = seam;
    for (int first = (t_.used - 1) / warp_size * warp_size; first >= 0; first -= warp_size) {
      const int own = first + lane_of_warp();
      const unsigned word = own < t_.used ? survivors(own) : 0U;
      int state_here = 0, from_here = 0;
      for (int i = min(warp_size, t_.used - first) - 1; i >= 0; --i) {
        const unsigned survivors_there = __shfl_sync(trellis_search::all_lanes, word, i);
        const auto from = static_cast<int>(survivors_there >> state & 1U);
        if (lane_of_warp() == i) {
          state_here = state;
          from_here = from;
        }
        state = state >> 1 | from << (memory - 1);
      }
      if (own < t_.used) {
        const int u = choices(own)[state_here];
        path[t_.coordinates[own].position] =
            static_cast<std::uint16_t>(u << (memory + 1) | from_here << memory | state_here);
      }
    }
    __syncwarp();
  }

  const TrellisWarp<half_rows>& warp_;
  const CalibratedTrellisView& t_;
  float* rows_;
  int dim_;
  int state_;
};

}  // namespace rotorquant::device
