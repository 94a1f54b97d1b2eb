#pragma once
// The trellis search by the metric's diagonal (TrellisCode::encode with weights) of four pairs of a centroid
// and a scale, by a warp: a state to a lane, two paths in a pass.
#include "rotorquant/device/calibrated_trellis_warp.cuh"

namespace rotorquant::device {

template <int memory, bool half_rows>
class TrellisPathSearch {
 public:
  static constexpr int states = 1 << memory;
  using Row = typename TrellisLevelReader<half_rows>::Row;
  // A used coordinate on the scale of the tables, its weight and the row of its cell.
  struct alignas(16) Step {
    float y;
    float weight;
    const Row* row;
  };

  __device__ TrellisPathSearch(const TrellisWarp<half_rows>& warp, const TrellisWarpLayout& layout)
      : warp_(warp),
        t_(warp.levels().t),
        steps_(reinterpret_cast<Step*>(warp.scratch())),
        step_pitch_(layout.step_pitch / 4),
        survivors_(reinterpret_cast<std::uint32_t*>(warp.scratch()) + paths_together * layout.step_pitch),
        survivor_pitch_(layout.survivor_pitch),
        states_(reinterpret_cast<std::uint8_t*>(survivors_ + paths_together * layout.survivor_pitch)),
        state_pitch_((t_.used + 3) / 4 * 4) {}

  // The group's paths become those of its pairs, of which the first `count` are of interest.
  __device__ void find(const TrellisGroup& group, int count) const {
    prepare(group);
    const int own = lane_of_warp() % paths_together;
    int seam = 0;  // of path `own`
    for (int first = 0; first < count; first += trellis_search::together) run_passes(first, seam);
    trace(own, seam);
    __syncwarp();
    for (int j = 0; j < count; ++j) {
      expand(j, __shfl_sync(trellis_search::all_lanes, seam, j),
             warp_.path(__shfl_sync(trellis_search::all_lanes, group.path, j)));
    }
    __syncwarp();
  }

  // What the recursion asks for.
  __device__ __forceinline__ float2 distortions(const Step& at, int q) const {
    const float2 plain =
        trellis_search::distortions_of(at.y, TrellisLevelReader<half_rows>::unpack(at.row[q]));
    return make_float2(__fmul_rn(plain.x, at.weight), __fmul_rn(plain.y, at.weight));
  }

 private:
  __device__ Step* steps_of(int j) const { return steps_ + j * step_pitch_; }
  __device__ std::uint32_t* survivors_of(int j) const { return survivors_ + j * survivor_pitch_; }

  __device__ void prepare(const TrellisGroup& group) const {
    TrellisPair pairs[paths_together];
    float inverse[paths_together];
#pragma unroll
    for (int j = 0; j < paths_together; ++j) {
      pairs[j] = warp_.pair(group, j);
      inverse[j] = __fdiv_rn(1.0F, pairs[j].scale);
    }
    for (int i = lane_of_warp(); i < t_.used; i += warp_size) {
      const UsedCoordinate coordinate = t_.coordinates[i];
      const Row* const rows = warp_.levels().rows(coordinate.levels);
#pragma unroll
      for (int j = 0; j < paths_together; ++j) {
        const float y = __fmul_rn(warp_.residual_of(pairs[j], coordinate.position), inverse[j]);
        const int cell = trellis_search::cell_of(coordinate.levels.cells, y);
        steps_of(j)[i] = {y, coordinate.weight, rows + cell * states};
      }
    }
    __syncwarp();
  }

  // The survivors of paths `first` and the next, and the register at the seam in their lanes. It is the best
  // one around the seam, both ends of the path free, or with few coordinates that of the best closed path.
  __device__ void run_passes(int first, int& seam) const {
    constexpr int together = trellis_search::together;
    const bool exhaustive = t_.used <= trellis::exhaustive_used;
    const int context = min(trellis::seam_context, t_.used);
    const int before = exhaustive ? states : 2;  // passes that look for the seam
    const int own = lane_of_warp() % paths_together - first;
    float cost[together] = {}, best[together];
#pragma unroll
    for (int j = 0; j < together; ++j) best[j] = INFINITY;
    for (int pass = 0; pass <= before; ++pass) {
      const bool last = pass == before;
      if (last || exhaustive) {
#pragma unroll
        for (int j = 0; j < together; ++j) {
          const int start = last ? __shfl_sync(trellis_search::all_lanes, seam, first + j) : pass;
          cost[j] = lane_of_warp() % states == start ? 0.0F : INFINITY;
        }
      }
      const bool whole = last || exhaustive, kept = last || (pass == 1 && !exhaustive);
      const int begin = whole || pass == 1 ? 0 : t_.used - context;
      const Step* at[together];
      std::uint32_t* survivors[together];
#pragma unroll
      for (int j = 0; j < together; ++j) {
        at[j] = steps_of(first + j) + begin;
        survivors[j] = kept ? survivors_of(first + j) : nullptr;
      }
      trellis_search::Recursion<memory, TrellisPathSearch>(*this).forward(at, whole ? t_.used : context, cost,
                                                                          survivors);
      if (last) break;
#pragma unroll
      for (int j = 0; j < together; ++j) {
        if (exhaustive) {
          const float closed = __shfl_sync(trellis_search::all_lanes, cost[j], pass);
          if (own == j && closed < best[j]) seam = pass;
          best[j] = fminf(best[j], closed);
        } else if (pass == 1) {
          const int found = trellis_search::best_state(cost[j]);
          if (own == j) seam = found;
        }
      }
      if (!kept) continue;
      __syncwarp();
      const std::uint32_t* const mine = survivors_of(first + (own & 1));
      int state = seam;
      for (int i = context - 1; i >= 0; --i) state = trellis_search::state_before(memory, state, mine[i]);
      if (own == 0 || own == 1) seam = state;
      __syncwarp();
    }
    __syncwarp();
  }

  // The states after each step of path `own`, four to a word.
  __device__ void trace(int own, int seam) const {
    const auto* const kept = reinterpret_cast<const uint4*>(survivors_of(own));
    auto* const to = reinterpret_cast<std::uint32_t*>(states_ + own * state_pitch_);
    int state = seam;
    for (int word = (t_.used - 1) / 4; word >= 0; --word) {
      const uint4 four = kept[word];
      const unsigned survivors[4] = {four.x, four.y, four.z, four.w};
      std::uint32_t states_here = 0;
#pragma unroll
      for (int i = 3; i >= 0; --i) {
        if (4 * word + i >= t_.used) continue;
        states_here |= static_cast<std::uint32_t>(state) << (8 * i);
        state = trellis_search::state_before(memory, state, survivors[i]);
      }
      if (lane_of_warp() < paths_together) to[word] = states_here;
    }
  }

  // The places of the values along path j.
  __device__ void expand(int j, int seam, std::uint16_t* path) const {
    const std::uint8_t* const after = states_ + j * state_pitch_;
    for (int i = lane_of_warp(); i < t_.used; i += warp_size) {
      const Step step = steps_of(j)[i];
      const int before = i > 0 ? after[i - 1] : seam;
      const int r = before << 1 | (after[i] & 1);
      const TrellisWidthView levels = t_.coordinates[i].levels;
      const float4 row = TrellisLevelReader<half_rows>::unpack(step.row[r % states]);
      const bool upper = step.y > (r < states ? row.x : row.z);
      const auto cell_choices = static_cast<int>(4 * (step.row - warp_.levels().rows(levels)));
      const int u = __ldg(t_.choices + levels.first_choice + cell_choices + (upper ? 2 * states : 0) + r);
      path[t_.coordinates[i].position] = static_cast<std::uint16_t>(u << (memory + 1) | r);
    }
  }

  const TrellisWarp<half_rows>& warp_;
  const CalibratedTrellisView& t_;
  Step* steps_;
  int step_pitch_;
  std::uint32_t* survivors_;
  int survivor_pitch_;
  std::uint8_t* states_;
  int state_pitch_;
};

}  // namespace rotorquant::device
