#pragma once
// The search of CalibratedCodec::search_trellis for one key by a warp: the pairs of centroid and scale by the
// metric's diagonal, the best of them by the full form, four at a time.
#include "rotorquant/device/calibrated_trellis_feedback.cuh"
#include "rotorquant/device/calibrated_trellis_paths.cuh"

namespace rotorquant::device {

template <int memory, bool half_rows>
class KeyTrellisSearch {
 public:
  static constexpr int states = 1 << memory;

  __device__ KeyTrellisSearch(const CalibratedView& codec, const TrellisWarp<half_rows>& warp,
                              const TrellisWarpLayout& layout)
      : codec_(codec), warp_(warp), t_(warp.levels().t), layout_(layout) {}

  // The best of a key's pairs (KeyChoice::pack), pair i at pairs[i stride]. Its path is best_path().
  __device__ KeyChoice find(const int* pairs, int stride, int count) const {
    Finalists finalists;
    const TrellisPathSearch<memory, half_rows> search(warp_, layout_);
    const int own = lane_of_warp() % paths_together;
    for (int first = 0; first < count; first += paths_together) {
      const int left = min(count - first, paths_together);
      const TrellisGroup group{pairs[min(first + own, count - 1) * stride], group_path(own < left ? own : 0)};
      search.find(group, left);
      const float costs = warp_.measure(group);
      for (int j = 0; j < left; ++j) {
        offer(finalists, from_lane(costs, j), from_lane(group.pair, j), group_path(j));
      }
    }
    KeyChoice best;
    keep(best, from_lane(finalists.cost, 0), from_lane(finalists.pair, 0), from_lane(finalists.path, 0));
    if (t_.refinements == 0) return best;
    for (int first = 0; first < finalists.count; first += paths_together) refine(finalists, first, best);
    return best;
  }
  __device__ int best_path() const { return TrellisWarpLayout::finalists(t_); }

 private:
  // Pairs in the order of their costs, of equal ones those that came first: lane i has the i-th.
  struct Finalists {
    float cost = INFINITY;
    int pair = 0;
    int path = 0;
    int count = 0;  // the same in all lanes
  };

  template <typename T>
  static __device__ __forceinline__ T from_lane(T value, int lane) {
    return __shfl_sync(trellis_search::all_lanes, value, lane);
  }
  __device__ int group_path(int j) const { return best_path() + 1 + j; }

  __device__ void offer(Finalists& finalists, float cost, int pair, int path) const {
    const int most = TrellisWarpLayout::finalists(t_);
    const int place = __popc(__ballot_sync(trellis_search::all_lanes,
                                           lane_of_warp() < finalists.count && !(cost < finalists.cost)));
    if (place >= most) return;
    // The last one makes room.
    const int freed = __shfl_sync(trellis_search::all_lanes, finalists.path, most - 1);
    const int own = finalists.count < most ? finalists.count : freed;
    const float cost_before = __shfl_up_sync(trellis_search::all_lanes, finalists.cost, 1);
    const int pair_before = __shfl_up_sync(trellis_search::all_lanes, finalists.pair, 1);
    const int path_before = __shfl_up_sync(trellis_search::all_lanes, finalists.path, 1);
    if (lane_of_warp() >= place) {
      finalists.cost = lane_of_warp() == place ? cost : cost_before;
      finalists.pair = lane_of_warp() == place ? pair : pair_before;
      finalists.path = lane_of_warp() == place ? own : path_before;
    }
    finalists.count = min(finalists.count + 1, most);
    warp_.copy_path(path, own);
  }

  __device__ void keep(KeyChoice& best, float cost, int pair, int path) const {
    if (!(cost < best.cost)) return;
    best = KeyChoice::unpack(pair);
    best.cost = cost;
    warp_.copy_path(path, best_path());
  }

  // CalibratedTrellis::refine of finalists first .. first + 3.
  __device__ void refine(const Finalists& finalists, int first, KeyChoice& best) const {
    const int count = min(finalists.count - first, paths_together);
    const int own = min(lane_of_warp() % paths_together, count - 1);
    const float cost_before = from_lane(finalists.cost, first + own);
    const int path_before = from_lane(finalists.path, first + own);
    TrellisGroup group{from_lane(finalists.pair, first + own), group_path(own)};
    const TrellisFeedbackSearch<memory, half_rows> feedback(warp_, codec_.dim);
    const int last_used = t_.coordinates[t_.used - 1].position;
    for (int j = 0; j < count; ++j) {
      const int seam = warp_.path(from_lane(path_before, j))[last_used] & (states - 1);
      feedback.find(warp_.pair(group, j), seam, warp_.path(group_path(j)));
    }
    float costs = 0.0F;
    enum class Measured { trials, chosen, descended } now = Measured::trials;
    for (;;) {
      costs = warp_.measure(group);
      if (now == Measured::descended) break;
      if (now == Measured::trials) {
        const bool better = costs < cost_before;
        if (!better) group.path = path_before;
        now = Measured::chosen;
        if (!__all_sync(trellis_search::all_lanes, better)) continue;
      }
      bool changed = false;
      for (int j = 0; j < count; ++j)
        changed |= descend(j, warp_.pair(group, j).scale, warp_.path(from_lane(group.path, j)));
      if (!changed) break;
      now = Measured::descended;
    }
    for (int j = 0; j < count; ++j)
      keep(best, from_lane(costs, j), from_lane(group.pair, j), from_lane(group.path, j));
  }

  // CalibratedTrellis::descend of path j of the group, given its gradient. All lanes look at their
  // coordinates; the first that moves changes the gradient of the others, which look again.
  __device__ bool descend(int j, float scale, std::uint16_t* path) const {
    const float inverse = __fdiv_rn(1.0F, scale);
    bool moved = false;
    for (int sweep = 0; sweep < codec_.descent_sweeps; ++sweep) {
      bool changed = false;
      for (int first = 0; first < t_.used; first += warp_size)
        changed |= descend_chunk(j, scale, inverse, first, path);
      moved |= changed;
      if (!changed) break;
    }
    return moved;
  }

  __device__ bool descend_chunk(int j, float scale, float inverse, int first, std::uint16_t* path) const {
    const int own = first + lane_of_warp();
    const UsedCoordinate at = t_.coordinates[min(own, t_.used - 1)];
    const float* const values = warp_.levels().values(at.levels);
    float* const gradient = warp_.gradient(j);
    bool open = own < t_.used && at.width > 1;
    unsigned place = path[at.position];
    bool changed = false;
    for (;;) {
      const int r = static_cast<int>(place & (2U * states - 1U));
      const float value = values[place];
      unsigned target_place = place;
      if (open) {
        const float pull = __fdiv_rn(__fmul_rn(gradient[at.position * paths_together], inverse), at.weight);
        target_place = nearest_place(at, __fadd_rn(value, pull), r);
      }
      const unsigned movers = __ballot_sync(trellis_search::all_lanes, target_place != place);
      if (movers == 0) break;
      const int mover = __ffs(static_cast<int>(movers)) - 1;
      const float change = __fsub_rn(values[target_place], value);
      const float step = __shfl_sync(trellis_search::all_lanes, __fmul_rn(scale, change), mover);
      const int position = __shfl_sync(trellis_search::all_lanes, at.position, mover);
      if (lane_of_warp() == mover) {
        place = target_place;
        path[at.position] = static_cast<std::uint16_t>(place);
      }
      open &= lane_of_warp() > mover;
      __syncwarp();
      const float* const row = codec_.metric + static_cast<std::int64_t>(position) * codec_.metric_stride;
      for (int k = lane_of_warp(); k < codec_.dim; k += warp_size) {
        float& own_gradient = gradient[k * paths_together];
        own_gradient = __fsub_rn(own_gradient, __fmul_rn(step, __ldg(row + k)));
      }
      __syncwarp();
      changed = true;
    }
    __syncwarp();
    return changed;
  }

  // Of the level of register r nearest to the target.
  __device__ unsigned nearest_place(const UsedCoordinate& at, float target, int r) const {
    const int cell = trellis_search::cell_of(at.levels.cells, target);
    const float4 row =
        TrellisLevelReader<half_rows>::unpack(warp_.levels().rows(at.levels)[cell * states + r % states]);
    const bool upper = target > (r < states ? row.x : row.z);
    const unsigned u =
        __ldg(t_.choices + at.levels.first_choice + 4 * states * cell + (upper ? 2 * states : 0) + r);
    return u << (memory + 1) | static_cast<unsigned>(r);
  }

  const CalibratedView& codec_;
  const TrellisWarp<half_rows>& warp_;
  const CalibratedTrellisView& t_;
  const TrellisWarpLayout& layout_;
};

}  // namespace rotorquant::device
