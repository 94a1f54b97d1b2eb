#include "rotorquant/quantizers/cascade_program.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#if defined(__x86_64__)
#include "rotorquant/core/avx2.hpp"
#include "rotorquant/quantizers/cascade_step_avx512.hpp"
#endif

namespace rotorquant {
namespace {

// The permutation p of three for which the product of block[r][p(r)] is largest: no pivot is small by choice.
std::array<std::size_t, 3> best_pivots(const std::array<double, 9>& block) {
  std::array<std::size_t, 3> order{0, 1, 2}, best = order;
  double largest = -1.0;
  do {
    const double product = std::abs(block[order[0]] * block[3 + order[1]] * block[6 + order[2]]);
    if (product > largest) {
      largest = product;
      best = order;
    }
  } while (std::next_permutation(order.begin(), order.end()));
  return best;
}

// Programs are built from their ends: at each layer's output, coordinate c lies in slots[c] as its value
// divided by scales[c].
struct Builder {
  std::vector<CascadeStep> steps;  // last first
  std::vector<std::int32_t> slots;
  std::vector<double> scales;

  void prepend(const std::array<std::int32_t, 3>& triple, const std::array<double, 9>& block) {
    const std::array<std::size_t, 3> pivots = best_pivots(block);
    std::array<std::int32_t, 3> places;
    std::array<double, 3> outputs, inputs;
    for (std::size_t r = 0; r < 3; ++r) {
      const auto coordinate = static_cast<std::size_t>(triple[r]);
      places[r] = slots[coordinate];
      outputs[r] = scales[coordinate];
      inputs[pivots[r]] = outputs[r] / block[3 * r + pivots[r]];
    }
    CascadeStep step;
    for (std::size_t r = 0; r < 3; ++r) step.slots[pivots[r]] = places[r];
    for (std::size_t r = 0; r < 3; ++r) {
      std::size_t factor = 2 * pivots[r];
      for (std::size_t c = 0; c < 3; ++c) {
        if (c == pivots[r]) continue;
        step.factors[factor++] = static_cast<float>(block[3 * r + c] * inputs[c] / outputs[r]);
      }
    }
    for (std::size_t c = 0; c < 3; ++c) {
      slots[static_cast<std::size_t>(triple[c])] = step.slots[c];
      scales[static_cast<std::size_t>(triple[c])] = inputs[c];
    }
    steps.push_back(step);
  }

  std::vector<CascadeStep> in_order() const { return {steps.rbegin(), steps.rend()}; }
};

void run_serial(std::span<const CascadeStep> steps, float* columns) {
  for (const CascadeStep& step : steps) {
    float* a = columns + step.slots[0] * cascade_lanes;
    float* b = columns + step.slots[1] * cascade_lanes;
    float* c = columns + step.slots[2] * cascade_lanes;
    const std::array<float, 6>& f = step.factors;
    for (std::int64_t v = 0; v < cascade_lanes; ++v) {
      const float x = a[v], y = b[v], z = c[v];
      a[v] = std::fma(f[1], z, std::fma(f[0], y, x));
      b[v] = std::fma(f[3], z, std::fma(f[2], x, y));
      c[v] = std::fma(f[5], y, std::fma(f[4], x, z));
    }
  }
}

#if defined(__x86_64__)
ROTORQUANT_AVX2 void run_avx2(std::span<const CascadeStep> steps, float* columns) {
  for (const CascadeStep& step : steps) {
    float* places[3];
    __m256 f[6];
    for (std::size_t i = 0; i < 3; ++i) places[i] = columns + step.slots[i] * cascade_lanes;
    for (std::size_t i = 0; i < 6; ++i) f[i] = _mm256_set1_ps(step.factors[i]);
    for (std::int64_t v = 0; v < cascade_lanes; v += 8) {
      const __m256 x = _mm256_load_ps(places[0] + v), y = _mm256_load_ps(places[1] + v),
                   z = _mm256_load_ps(places[2] + v);
      _mm256_store_ps(places[0] + v, _mm256_fmadd_ps(f[1], z, _mm256_fmadd_ps(f[0], y, x)));
      _mm256_store_ps(places[1] + v, _mm256_fmadd_ps(f[3], z, _mm256_fmadd_ps(f[2], x, y)));
      _mm256_store_ps(places[2] + v, _mm256_fmadd_ps(f[5], y, _mm256_fmadd_ps(f[4], x, z)));
    }
  }
}

#endif

}  // namespace

#if defined(__x86_64__)
ROTORQUANT_AVX512 void run_steps_avx512(std::span<const CascadeStep> steps, float* columns) {
  for (const CascadeStep& step : steps) {
    const avx512::StepFactors factors(step);
    float* const places[3] = {columns + step.slots[0] * cascade_lanes,
                              columns + step.slots[1] * cascade_lanes,
                              columns + step.slots[2] * cascade_lanes};
#pragma GCC unroll 2
    for (std::int64_t v = 0; v < cascade_lanes; v += avx512::lanes) {
      factors.apply(_mm512_load_ps(places[0] + v), _mm512_load_ps(places[1] + v),
                    _mm512_load_ps(places[2] + v), places, v);
    }
  }
}
#endif

CascadeProgram forward_program(const BlockCascade& cascade, std::span<const double> deviations,
                               std::span<const std::int32_t> order) {
  Builder builder;
  builder.slots.resize(order.size());
  builder.scales.assign(deviations.begin(), deviations.end());
  for (std::size_t k = 0; k < order.size(); ++k)
    builder.slots[static_cast<std::size_t>(order[k])] = static_cast<std::int32_t>(k);
  for (auto layer = cascade.layers.rbegin(); layer != cascade.layers.rend(); ++layer) {
    for (std::size_t g = 0; g < layer->triples.size(); ++g) {
      std::array<double, 9> block;
      std::copy(layer->blocks[g].begin(), layer->blocks[g].end(), block.begin());
      builder.prepend(layer->triples[g], block);
    }
  }
  CascadeProgram program{builder.in_order(), builder.slots, {}};
  for (std::size_t i = 0; i < order.size(); ++i)
    program.scales.push_back(static_cast<float>(static_cast<double>(cascade.delta[i]) / builder.scales[i]));
  return program;
}

CascadeProgram inverse_program(const BlockCascade& cascade, std::span<const double> deviations,
                               std::span<const std::int32_t> order) {
  Builder builder;
  builder.scales.assign(cascade.delta.begin(), cascade.delta.end());
  for (std::size_t i = 0; i < order.size(); ++i) builder.slots.push_back(static_cast<std::int32_t>(i));
  for (const TripleLayer& layer : cascade.layers) {
    for (std::size_t g = 0; g < layer.triples.size(); ++g)
      builder.prepend(layer.triples[g], inverse_of(layer.blocks[g]));
  }
  CascadeProgram program{builder.in_order(), {}, {}};
  for (const std::int32_t coordinate : order) {
    const auto c = static_cast<std::size_t>(coordinate);
    program.slots.push_back(builder.slots[c]);
    program.scales.push_back(static_cast<float>(deviations[c] / builder.scales[c]));
  }
  return program;
}

CascadeStages stages_of(const CascadeProgram& program) {
  CascadeStages stages;
  std::vector<bool> changed(program.slots.size());
  for (const CascadeStep& step : program.steps) {
    bool fresh = true;
    for (const std::int32_t slot : step.slots) {
      fresh = fresh && !changed[static_cast<std::size_t>(slot)];
      changed[static_cast<std::size_t>(slot)] = true;
    }
    (fresh ? stages.first : stages.rest).push_back(step);
  }
  return stages;
}

double largest_column(const CascadeProgram& program, double input) {
  constexpr double upwards = 1.0 + 0x1p-20;  // of a step's roundings
  std::vector<double> columns(program.slots.size());
  for (std::size_t i = 0; i < columns.size(); ++i)
    columns[static_cast<std::size_t>(program.slots[i])] =
        upwards * input * std::abs(static_cast<double>(program.scales[i]));
  for (const CascadeStep& step : program.steps) {
    double from[3];
    for (std::size_t r = 0; r < 3; ++r) from[r] = columns[static_cast<std::size_t>(step.slots[r])];
    for (std::size_t r = 0; r < 3; ++r) {
      double& column = columns[static_cast<std::size_t>(step.slots[r])];
      column += std::abs(static_cast<double>(step.factors[2 * r])) * from[r == 0 ? 1 : 0];
      column += std::abs(static_cast<double>(step.factors[2 * r + 1])) * from[r == 2 ? 1 : 2];
      column *= upwards;
    }
  }
  return columns.empty() ? 0.0 : *std::max_element(columns.begin(), columns.end());
}

void run_steps(Isa isa, std::span<const CascadeStep> steps, float* columns) {
#if defined(__x86_64__)
  if (isa == Isa::avx512 && !halves_wide_registers()) return run_steps_avx512(steps, columns);
  if (isa != Isa::serial) return run_avx2(steps, columns);
#endif
  (void)isa;
  run_serial(steps, columns);
}

}  // namespace rotorquant
