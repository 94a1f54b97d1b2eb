#include "rotorquant/quantizers/calibrated_trellis.hpp"

#include <algorithm>
#include <utility>

#include "rotorquant/core/dense_product.hpp"
#include "rotorquant/core/dot_product.hpp"

namespace rotorquant {
WidthDistortions trellis_distortions(int memory) {
  WidthDistortions distortions{1.0};
  for (int width = 1; width <= max_width; ++width) {
    distortions[static_cast<std::size_t>(width)] = trellis_table(memory, width).mse;
  }
  return distortions;
}

CalibratedTrellis::CalibratedTrellis(std::span<const std::uint8_t> widths,
                                     std::span<const std::int32_t> order, std::vector<float> metric,
                                     int memory)
    : code_(widths, memory),
      order_(order.begin(), order.end()),
      metric_(std::move(metric)),
      weights_(widths.size()) {
  for (std::size_t k = 0; k < order_.size(); ++k) {
    weights_[static_cast<std::size_t>(order_[k])] = metric_[k * order_.size() + k];
    if (widths[static_cast<std::size_t>(order_[k])] > 0) used_.push_back(k);
  }
  std::ranges::sort(used_, {}, [&](std::size_t position) { return order_[position]; });
  const std::size_t n = order_.size();
  std::vector<float> by_index(n * n);
  for (std::size_t k = 0; k < n; ++k) {
    for (std::size_t l = 0; l < n; ++l) {
      by_index[static_cast<std::size_t>(order_[k]) * n + static_cast<std::size_t>(order_[l])] =
          metric_[k * n + l];
    }
  }
  feedback_.emplace(code_, by_index);
}

void CalibratedTrellis::decode(const std::uint8_t* symbols, float* values, Workspace& workspace) const {
  workspace.by_index.resize(order_.size());
  workspace.values_by_index.resize(order_.size());
  for (std::size_t k = 0; k < order_.size(); ++k) {
    workspace.by_index[static_cast<std::size_t>(order_[k])] = symbols[k];
  }
  code_.decode(workspace.by_index.data(), workspace.values_by_index.data());
  for (std::size_t k = 0; k < order_.size(); ++k) {
    values[k] = workspace.values_by_index[static_cast<std::size_t>(order_[k])];
  }
}

void CalibratedTrellis::to_storage_order(std::uint8_t* symbols, Workspace& workspace) const {
  for (std::size_t k = 0; k < order_.size(); ++k) {
    symbols[k] = workspace.by_index[static_cast<std::size_t>(order_[k])];
  }
}

// Leaves y^ in workspace.values and metric * (y - scale y^) in workspace.gradient; returns the cost.
float CalibratedTrellis::measure(const float* y, float scale, const std::uint8_t* symbols,
                                 Workspace& workspace) const {
  const auto dim = static_cast<std::int64_t>(order_.size());
  workspace.values.resize(order_.size());
  workspace.error.resize(order_.size());
  workspace.gradient.resize(order_.size());
  decode(symbols, workspace.values.data(), workspace);
  for (std::size_t k = 0; k < order_.size(); ++k) workspace.error[k] = y[k] - scale * workspace.values[k];
  dense_product({workspace.error.data(), 1, dim}, {metric_.data(), dim, dim},
                {workspace.gradient.data(), 1, dim});
  return static_cast<float>(dot_product(workspace.error.data(), workspace.gradient.data(), dim));
}

float CalibratedTrellis::encode(const float* y, float scale, std::uint8_t* symbols,
                                Workspace& workspace) const {
  workspace.targets.resize(order_.size());
  const float inverse = 1.0F / scale;
  for (std::size_t k = 0; k < order_.size(); ++k) {
    workspace.targets[static_cast<std::size_t>(order_[k])] = y[k] * inverse;
  }
  workspace.by_index.resize(order_.size());
  code_.encode(workspace.targets.data(), weights_.data(), workspace.by_index.data(), workspace.code);
  to_storage_order(symbols, workspace);
  return measure(y, scale, symbols, workspace);
}

float CalibratedTrellis::refine(const float* y, float scale, int sweeps, std::uint8_t* symbols,
                                Workspace& workspace) const {
  const float cost = measure(y, scale, symbols, workspace);
  if (used_.empty()) return cost;
  find_registers(symbols, workspace);
  const unsigned seam = workspace.registers[used_.back()] & ((1U << code_.memory()) - 1U);
  workspace.targets.resize(order_.size());
  workspace.trial.resize(order_.size());
  for (std::size_t k = 0; k < order_.size(); ++k) {
    workspace.targets[static_cast<std::size_t>(order_[k])] = y[k];
  }
  feedback_->encode(code_, workspace.targets.data(), scale, seam, workspace.by_index.data(),
                    workspace.feedback);
  to_storage_order(workspace.trial.data(), workspace);
  if (measure(y, scale, workspace.trial.data(), workspace) < cost) {
    std::copy_n(workspace.trial.data(), order_.size(), symbols);
  }
  descend(y, scale, sweeps, symbols, workspace);
  return measure(y, scale, symbols, workspace);
}

// r of every used coordinate, at its storage position.
void CalibratedTrellis::find_registers(const std::uint8_t* symbols, Workspace& workspace) const {
  workspace.registers.resize(order_.size());
  const int memory = code_.memory();
  const std::size_t count = used_.size();
  unsigned state = 0;
  for (std::size_t i = 0; i < static_cast<std::size_t>(memory); ++i) {
    const std::size_t back = (static_cast<std::size_t>(memory) - i) % count;
    state = state << 1 | (symbols[used_[(count - back) % count]] & 1U);
  }
  for (const std::size_t position : used_) {
    state = (state << 1 | (symbols[position] & 1U)) & ((2U << memory) - 1U);
    workspace.registers[position] = static_cast<std::uint8_t>(state);
  }
}

// Coordinate descent over the upper bits of symbols, which change no register: each coordinate moves to the
// level nearest to the minimum over its own real value, given all other errors.
void CalibratedTrellis::descend(const float* y, float scale, int sweeps, std::uint8_t* symbols,
                                Workspace& workspace) const {
  if (used_.empty()) return;
  measure(y, scale, symbols, workspace);
  find_registers(symbols, workspace);
  const std::size_t n = order_.size();
  const float inverse = 1.0F / scale;
  const int register_bits = code_.memory() + 1;
  for (int sweep = 0; sweep < sweeps; ++sweep) {
    bool changed = false;
    for (const std::size_t k : used_) {
      const int width = code_.widths()[static_cast<std::size_t>(order_[k])];
      if (width == 1) continue;
      const TrellisLevels& levels = code_.codebook().levels(width);
      const float target = workspace.values[k] + workspace.gradient[k] * inverse / metric_[k * n + k];
      const int cell = levels.cell(target);
      const int r = workspace.registers[k];
      const int upper = target > levels.row(cell)[r] ? 1 : 0;
      const unsigned u = levels.choices(cell)[r + (upper << register_bits)];
      if (u == static_cast<unsigned>(symbols[k] >> 1)) continue;
      symbols[k] = static_cast<std::uint8_t>(u << 1 | (symbols[k] & 1U));
      const float value = levels.values()[u << register_bits | static_cast<unsigned>(r)];
      const float step = scale * (value - workspace.values[k]);
      workspace.values[k] = value;
      for (std::size_t j = 0; j < n; ++j) workspace.gradient[j] -= step * metric_[k * n + j];
      changed = true;
    }
    if (!changed) return;
  }
}

}  // namespace rotorquant
