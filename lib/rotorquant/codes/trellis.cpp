#include "rotorquant/codes/trellis.hpp"

#include <algorithm>
#include <limits>
#include <string>

#include "rotorquant/core/error.hpp"

namespace rotorquant {
namespace {

using trellis::exhaustive_used;
using trellis::seam_context;

constexpr int max_states = 32;
constexpr float unreachable = std::numeric_limits<float>::infinity();

struct alignas(64) PathCosts {
  float values[max_states];
};

// Follows the survivors of `count` steps back from register `state` and returns the register before the first
// step. states [count] or nullptr: the register after each step.
int trace_back(int memory, const std::uint32_t* survivors, int count, int state, std::uint8_t* states) {
  for (int i = count - 1; i >= 0; --i) {
    if (states != nullptr) states[i] = static_cast<std::uint8_t>(state);
    const auto top = static_cast<int>((survivors[i] >> state) & 1U);
    state = state >> 1 | top << (memory - 1);
  }
  return state;
}

}  // namespace

TrellisCode::TrellisCode(std::span<const std::uint8_t> widths, int memory, Isa isa)
    : TrellisCode(widths, TrellisCodebook::shipped(memory), isa) {}

TrellisCode::TrellisCode(std::span<const std::uint8_t> widths,
                         std::shared_ptr<const TrellisCodebook> codebook, Isa isa)
    : widths_(widths.begin(), widths.end()),
      codebook_(std::move(codebook)),
      forward_(trellis::forward_pass(codebook_->memory(), isa)) {
  if (widths.empty() || widths.size() > max_trellis_dim) {
    throw Error("a trellis code of " + std::to_string(widths.size()) +
                " coordinates is not supported; valid: 1.." + std::to_string(max_trellis_dim));
  }
  for (std::size_t t = 0; t < widths.size(); ++t) {
    if (widths[t] > max_trellis_width) {
      throw Error("width " + std::to_string(widths[t]) + " of coordinate " + std::to_string(t) +
                  " of a trellis code is not supported; valid: 0..8");
    }
    if (widths[t] == 0) continue;
    used_.push_back(static_cast<std::uint16_t>(t));
    levels_.push_back(&codebook_->levels(widths[t]));
    values_.push_back(levels_.back()->values().data());
  }
}

void TrellisCode::encode(const float* y, const float* weight, std::uint8_t* symbols,
                         TrellisWorkspace& workspace) const {
  std::fill_n(symbols, widths_.size(), std::uint8_t{0});
  const int count = static_cast<int>(used_.size());
  if (count == 0) return;
  workspace.steps.resize(used_.size());
  workspace.choices.resize(used_.size());
  workspace.survivors.resize(std::max(used_.size(), std::size_t{2 * seam_context}));
  for (std::size_t i = 0; i < used_.size(); ++i) {
    const float value = y[used_[i]];
    const int cell = levels_[i]->cell(value);
    workspace.steps[i] = {levels_[i]->row(cell), value, weight == nullptr ? 1.0F : weight[used_[i]]};
    workspace.choices[i] = levels_[i]->choices(cell);
  }

  const int seam = count <= exhaustive_used ? best_register(workspace) : seam_register(workspace);
  PathCosts cost;
  pass_from(seam, workspace.steps.data(), count, cost.values, workspace.survivors.data());
  std::array<std::uint8_t, max_trellis_dim> states;
  trace_back(memory(), workspace.survivors.data(), count, seam, states.data());

  int before = seam;
  for (std::size_t i = 0; i < used_.size(); ++i) {
    const int lowest = states[i] & 1;
    const int r = before << 1 | lowest;
    const int upper = workspace.steps[i].y > workspace.steps[i].row[r] ? 1 : 0;
    const int u =
        workspace.choices[i][r + (upper << (memory() + 1))];  // a branch would be mispredicted half the time
    symbols[used_[i]] = static_cast<std::uint8_t>(u << 1 | lowest);
    before = states[i];
  }
}

// The register that the best path around the seam has there, both ends of the path free.
int TrellisCode::seam_register(TrellisWorkspace& workspace) const {
  const int count = static_cast<int>(used_.size());
  const int context = std::min(seam_context, count);
  const int states = 1 << memory();
  PathCosts cost;
  std::fill_n(cost.values, states, 0.0F);
  std::uint32_t* const after = workspace.survivors.data() + context;
  forward_(workspace.steps.data() + count - context, context, cost.values, workspace.survivors.data());
  forward_(workspace.steps.data(), context, cost.values, after);
  const auto best = std::min_element(cost.values, cost.values + states) - cost.values;
  return trace_back(memory(), after, context, static_cast<int>(best), nullptr);
}

// The register whose closed path around the whole circle is the cheapest.
int TrellisCode::best_register(TrellisWorkspace& workspace) const {
  int best = 0;
  float best_cost = unreachable;
  for (int start = 0; start < 1 << memory(); ++start) {
    PathCosts cost;
    pass_from(start, workspace.steps.data(), static_cast<int>(used_.size()), cost.values,
              workspace.survivors.data());
    // A register that does not repeat with the period of a circle shorter than M cannot be reached from
    // itself.
    if (cost.values[start] < best_cost) {
      best_cost = cost.values[start];
      best = start;
    }
  }
  return best;
}

void TrellisCode::pass_from(int start, const trellis::Step* steps, int count, float* cost,
                            std::uint32_t* survivors) const {
  std::fill_n(cost, 1 << memory(), unreachable);
  cost[start] = 0.0F;
  forward_(steps, count, cost, survivors);
}

void TrellisCode::decode(const std::uint8_t* symbols, float* y_hat) const {
  std::fill_n(y_hat, widths_.size(), 0.0F);
  if (used_.empty()) return;
  // The register before the first used coordinate; a circle shorter than M is walked more than once.
  unsigned state = 0;
  const std::size_t count = used_.size();
  const auto bits = static_cast<std::size_t>(memory());
  for (std::size_t i = 0; i < bits; ++i) {
    const std::size_t back = (bits - i) % count;  // how far before the first coordinate, less whole turns
    state = state << 1 | (symbols[used_[(count - back) % count]] & 1U);
  }
  const unsigned mask = (2U << bits) - 1U;
  for (std::size_t i = 0; i < count; ++i) {
    const unsigned symbol = symbols[used_[i]];
    state = (state << 1 | (symbol & 1U)) & mask;
    y_hat[used_[i]] = values_[i][(symbol >> 1) << (bits + 1) | state];
  }
}

}  // namespace rotorquant
