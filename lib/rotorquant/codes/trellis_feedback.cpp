#include "rotorquant/codes/trellis_feedback.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "rotorquant/core/error.hpp"

namespace rotorquant {
namespace {

// Eight states at a time: one AVX2 register, two of NEON.
constexpr int lanes = 8;
using Floats = float __attribute__((vector_size(lanes * sizeof(float))));
using Mask = std::int32_t __attribute__((vector_size(lanes * sizeof(float))));

Floats load(const float* source) {
  Floats value;
  std::memcpy(&value, source, sizeof value);
  return value;
}

void store(float* target, Floats value) {
  std::memcpy(target, &value, sizeof value);
}

// Lanes 0..3, or 4..7, each twice.
Floats lower_twice(Floats v) {
  return __builtin_shufflevector(v, v, 0, 0, 1, 1, 2, 2, 3, 3);
}
Floats upper_twice(Floats v) {
  return __builtin_shufflevector(v, v, 4, 4, 5, 5, 6, 6, 7, 7);
}

// What the states q of output vector `v` inherit from their two predecessors, q >> 1 and (q >> 1) + states /
// 2.
template <int states>
struct Inherited {
  Floats first, second;
  Inherited(const float* row, int v) {
    if constexpr (states == lanes) {
      first = lower_twice(load(row));
      second = upper_twice(load(row));
    } else {
      const Floats low = load(row + v / 2 * lanes);
      const Floats high = load(row + states / 2 + v / 2 * lanes);
      first = v % 2 == 0 ? lower_twice(low) : upper_twice(low);
      second = v % 2 == 0 ? lower_twice(high) : upper_twice(high);
    }
  }
};

struct Recursion {
  const float* y;                      // [count] of the used coordinates
  const TrellisLevels* const* levels;  // [count]
  const float* weights;                // [count]
  const float* factors;                // [count, count]
  int count;
  float scale;
  unsigned seam;
  float* feedback;           // [count, states]
  std::uint8_t* choices;     // [count, 2 states]
  std::uint32_t* survivors;  // [count]
};

template <int memory>
void run(const Recursion& job) {
  constexpr int states = 1 << memory;
  constexpr int vectors = states / lanes;
  alignas(64) float cost[states];
  std::fill_n(cost, states, std::numeric_limits<float>::infinity());
  cost[job.seam] = 0.0F;
  for (int t = 0; t < job.count; ++t) {
    const TrellisLevels& levels = *job.levels[t];
    const float* const values = levels.values().data();
    const int uppers = 1 << (levels.width() - 1);
    float* const row = job.feedback + static_cast<std::ptrdiff_t>(t) * states;
    alignas(64) float next[states];
    alignas(64) float error[states];
    Mask taken[vectors];
    std::uint32_t survivor = 0;
    for (int v = 0; v < vectors; ++v) {
      const Inherited<states> sums(row, v);
      const Inherited<states> costs(cost, v);
      // r = q from the first predecessor, q + states from the second.
      const auto nearest = [&](Floats feedback, int r, Mask& choice) {
        const Floats target = job.y[t] + feedback;
        Floats best = target - job.scale * load(values + r);
        choice = Mask{};
        for (int u = 1; u < uppers; ++u) {
          const Floats other = target - job.scale * load(values + 2 * states * u + r);
          const Mask closer = other * other < best * best;
          best = closer ? other : best;
          choice = closer ? Mask{} + u : choice;
        }
        return best;
      };
      Mask first_choice, second_choice;
      const Floats first = nearest(sums.first, v * lanes, first_choice);
      const Floats second = nearest(sums.second, states + v * lanes, second_choice);
      const Floats first_cost = costs.first + job.weights[t] * (first * first);
      const Floats second_cost = costs.second + job.weights[t] * (second * second);
      taken[v] = second_cost < first_cost;
      store(next + v * lanes, taken[v] ? second_cost : first_cost);
      // first and second hold e_t + f_t; feedback is of e_t alone.
      store(error + v * lanes, taken[v] ? second - sums.second : first - sums.first);
      for (int q = 0; q < lanes; ++q) {
        survivor |= static_cast<std::uint32_t>(taken[v][q] & 1) << (v * lanes + q);
        job.choices[t * 2 * states + v * lanes + q] = static_cast<std::uint8_t>(first_choice[q]);
        job.choices[t * 2 * states + states + v * lanes + q] = static_cast<std::uint8_t>(second_choice[q]);
      }
    }
    job.survivors[t] = survivor;
    std::copy_n(next, states, cost);
    const float* const column = job.factors + static_cast<std::ptrdiff_t>(t) * job.count;
    for (int later = t + 1; later < job.count; ++later) {
      float* const target = job.feedback + static_cast<std::ptrdiff_t>(later) * states;
      Floats moved[vectors];
      for (int v = 0; v < vectors; ++v) {
        const Inherited<states> sums(target, v);
        moved[v] = (taken[v] ? sums.second : sums.first) + column[later] * load(error + v * lanes);
      }
      for (int v = 0; v < vectors; ++v) store(target + v * lanes, moved[v]);
    }
  }
}

}  // namespace

TrellisFeedback::TrellisFeedback(const TrellisCode& code, std::span<const float> metric) {
  const std::size_t dim = code.widths().size();
  for (std::size_t i = 0; i < dim; ++i) {
    (code.widths()[i] > 0 ? used_ : unused_).push_back(static_cast<std::uint16_t>(i));
  }
  const std::size_t count = used_.size();
  // H = L^T D L is eliminated from the last coordinate up: what is left after t is the metric of the
  // coordinates before it when all later ones are free.
  std::vector<double> rest(dim * dim);  // used coordinates first, then the others
  const auto coordinate = [&](std::size_t i) { return i < count ? used_[i] : unused_[i - count]; };
  for (std::size_t i = 0; i < dim; ++i) {
    for (std::size_t j = 0; j < dim; ++j)
      rest[i * dim + j] = static_cast<double>(metric[coordinate(i) * dim + coordinate(j)]);
  }
  weights_.resize(count);
  factors_.assign(count * count, 0.0F);
  initial_factors_.assign((dim - count) * count, 0.0F);
  for (std::size_t t = count; t-- > 0;) {
    const double pivot = rest[t * dim + t];
    if (!(pivot > 0.0)) throw Error("a trellis search needs a positive definite metric");
    weights_[t] = static_cast<float>(pivot);
    for (std::size_t i = 0; i < dim; ++i) {
      if (i >= t && i < count) continue;
      const double factor = rest[t * dim + i] / pivot;
      if (i < t) {
        factors_[i * count + t] = static_cast<float>(factor);
      } else {
        initial_factors_[(i - count) * count + t] = static_cast<float>(factor);
      }
      for (std::size_t j = 0; j < dim; ++j) {
        if (j < t || j >= count) rest[i * dim + j] -= factor * rest[t * dim + j];
      }
    }
  }
}

void TrellisFeedback::encode(const TrellisCode& code, const float* y, float scale, unsigned seam,
                             std::uint8_t* symbols, Workspace& workspace) const {
  const std::size_t count = used_.size();
  const int memory = code.memory();
  const std::size_t states = std::size_t{1} << memory;
  std::fill_n(symbols, code.widths().size(), std::uint8_t{0});
  if (count == 0) return;
  workspace.targets.resize(count);
  workspace.levels.resize(count);
  workspace.initial.assign(count, 0.0F);
  workspace.feedback.resize(count * states);
  workspace.choices.resize(count * 2 * states);
  workspace.survivors.resize(count);
  for (std::size_t z = 0; z < unused_.size(); ++z) {
    for (std::size_t t = 0; t < count; ++t)
      workspace.initial[t] += y[unused_[z]] * initial_factors_[z * count + t];
  }
  for (std::size_t t = 0; t < count; ++t) {
    workspace.targets[t] = y[used_[t]];
    workspace.levels[t] = &code.codebook().levels(code.widths()[used_[t]]);
    std::fill_n(workspace.feedback.data() + t * states, states, workspace.initial[t]);
  }
  const Recursion job{workspace.targets.data(),
                      workspace.levels.data(),
                      weights_.data(),
                      factors_.data(),
                      static_cast<int>(count),
                      scale,
                      seam,
                      workspace.feedback.data(),
                      workspace.choices.data(),
                      workspace.survivors.data()};
  memory == 5 ? run<5>(job) : run<3>(job);

  unsigned state = seam;
  for (std::size_t t = count; t-- > 0;) {
    const unsigned from = workspace.survivors[t] >> state & 1U;
    const std::uint8_t u = workspace.choices[t * 2 * states + (from << memory) + state];
    symbols[used_[t]] = static_cast<std::uint8_t>(u << 1 | (state & 1U));
    state = state >> 1 | from << (memory - 1);
  }
}

}  // namespace rotorquant
