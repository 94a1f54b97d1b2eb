#pragma once
// Names and places in a file of transforms (transforms_file.hpp), for its writer and its reader alike.
#include <fmt/format.h>

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "evaluation/calibration/fit.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation::transforms_format {

inline constexpr const char* format_name = "rotorquant-transforms";
inline constexpr std::int64_t format_version = 2;

inline constexpr std::array<std::pair<QueryMetric, const char*>, 3> metric_names = {
    {{QueryMetric::attention, "attention"},
     {QueryMetric::uniform, "uniform"},
     {QueryMetric::identity, "identity"}}};
inline constexpr std::array<std::pair<BlockKind, const char*>, 2> block_names = {
    {{BlockKind::rotor, "rotor"}, {BlockKind::general, "general"}}};
inline constexpr std::array<std::pair<RopeLayout, const char*>, 2> layout_names = {
    {{RopeLayout::half, "half"}, {RopeLayout::interleaved, "interleaved"}}};

template <typename Names, typename Value>
const char* name_of(const Names& names, Value value) {
  for (const auto& [known, name] : names) {
    if (known == value) return name;
  }
  return "";
}

template <typename Names>
auto value_of(const Names& names, const std::string& name, const std::string& what) {
  std::string valid;
  for (const auto& [known, known_name] : names) {
    if (name == known_name) return known;
    valid += (valid.empty() ? "" : ", ") + std::string(known_name);
  }
  throw UsageError(fmt::format("{} '{}' is unknown; valid: {}", what, name, valid));
}

inline std::string layer_path(std::int64_t layer) {
  return fmt::format("/layers/{:03}", layer);
}

inline std::string bits_path(std::int64_t layer, int bits) {
  return fmt::format("{}/bits_{}", layer_path(layer), bits);
}

inline std::size_t element_count(const std::vector<std::int64_t>& shape) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  return static_cast<std::size_t>(count);
}

// The names and places of all scalar settings, for writing and for reading alike.
template <typename Settings, typename Integer, typename Real>
void visit_settings(Settings& settings, const Integer& integer, const Real& real) {
  integer("layers", settings.layers);
  integer("iterations", settings.iterations);
  integer("centroid_bits", settings.centroid_bits);
  integer("scale_bits", settings.scale.bits);
  integer("scale_steps_per_octave", settings.scale.steps_per_octave);
  integer("sinks", settings.sinks);
  integer("min_context", settings.min_context);
  real("attention_power", settings.attention_power);
  real("attention_mix", settings.attention_mix);
  real("scale_power", settings.scale_power);
  real("covariance_shrinkage", settings.covariance_shrinkage);
  real("metric_regularisation", settings.metric_regularisation);
  integer("kmeans_restarts", settings.kmeans_restarts);
  integer("kmeans_iterations", settings.kmeans_iterations);
  integer("seed", settings.seed);
}

// Likewise those of a head's moments: visit(name, square, values).
template <typename Statistics, typename Visit>
void visit_statistics(Statistics& statistics, const Visit& visit) {
  visit("key_mean", false, statistics.mean);
  visit("components", true, statistics.components);
  visit("variances", false, statistics.variances);
  visit("key_energy", false, statistics.key_energy);
  visit("query_energy", false, statistics.query_energy);
}

}  // namespace rotorquant::evaluation::transforms_format
