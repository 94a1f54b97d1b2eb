// rotorquant list: what this build knows: quantizers with their parameters, rotations, metrics, devices.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "commands/command.hpp"
#include "evaluation/metrics/metric_registry.hpp"
#include "evaluation/sweep/schemes.hpp"
#include "evaluation/sweep/tensor_method.hpp"
#include "rotorquant/core/device.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/isa.hpp"
#include "rotorquant/core/parallel.hpp"
#include "rotorquant/quantizers/registry.hpp"
#include "rotorquant/rotations/registry.hpp"

namespace rotorquant::app {
namespace {

using nlohmann::ordered_json;

ordered_json parameters_json(const std::vector<ParameterInfo>& parameters) {
  ordered_json list = ordered_json::array();
  for (const ParameterInfo& parameter : parameters) {
    list.push_back({{"key", parameter.key},
                    {"values", parameter.values},
                    {"default", parameter.default_value},
                    {"meaning", parameter.meaning}});
  }
  return list;
}

void print_parameters(const std::vector<ParameterInfo>& parameters) {
  for (const ParameterInfo& parameter : parameters) {
    fmt::print("  {}={} (default {}): {}\n", parameter.key, parameter.values, parameter.default_value,
               parameter.meaning);
  }
  fmt::print("\n");
}

// Where a quantizer runs as it is by default, at a usual head dimension.
std::vector<std::string> devices_of(const QuantizerInfo& info) {
  const auto quantizer = make_quantizer({info.name, {}}, {std::max(info.min_bits, 3), 0, 64});
  std::vector<std::string> devices{"cpu"};
  if (!quantizer->unsupported_on(Space::cuda)) devices.emplace_back("cuda");
  return devices;
}

std::vector<std::string> devices_of(const evaluation::CalibratedInfo& info) {
  std::vector<std::string> devices{"cpu"};
  if (info.on_gpu && built_with_cuda()) devices.emplace_back("cuda");
  return devices;
}

ordered_json quantizers_json() {
  ordered_json list = ordered_json::array();
  for (const QuantizerInfo& info : quantizer_registry()) {
    list.push_back({{"name", info.name},
                    {"summary", info.summary},
                    {"source", info.source},
                    {"values_use", info.value_name},
                    {"min_bits", info.min_bits},
                    {"devices", devices_of(info)},
                    {"parameters", parameters_json(info.parameters)}});
  }
  for (const evaluation::CalibratedInfo& info : evaluation::calibrated_registry()) {
    list.push_back({{"name", info.name},
                    {"summary", info.summary},
                    {"source", info.source},
                    {"values_use", info.values},
                    {"min_bits", 1},
                    {"devices", devices_of(info)},
                    {"parameters", parameters_json(info.parameters)}});
  }
  return list;
}

ordered_json schemes_json() {
  ordered_json list = ordered_json::array();
  for (const evaluation::Scheme& scheme : evaluation::scheme_registry()) {
    list.push_back({{"name", scheme.name},
                    {"summary", scheme.summary},
                    {"keys", scheme.keys},
                    {"values", scheme.values},
                    {"parameters", parameters_json(scheme.parameters)}});
  }
  return list;
}

ordered_json rotations_json() {
  ordered_json list = ordered_json::array();
  for (const RotationInfo& info : rotation_registry()) {
    list.push_back({{"name", info.name},
                    {"block", info.block},
                    {"cost_per_coordinate", info.cost},
                    {"stored_parameters", info.stored_parameters},
                    {"known_as", info.known_as}});
  }
  return list;
}

const char* better_text(evaluation::Better better) {
  switch (better) {
    case evaluation::Better::lower:
      return "lower";
    case evaluation::Better::higher:
      return "higher";
    case evaluation::Better::zero:
      return "nearer 0";
    case evaluation::Better::one:
      return "nearer 1";
  }
  return "";
}

ordered_json metrics_json() {
  ordered_json list = ordered_json::array();
  for (const evaluation::MetricInfo& info : evaluation::metric_registry()) {
    list.push_back({{"tag", info.tag},
                    {"better", better_text(info.better)},
                    {"unit", info.unit},
                    {"needs_queries", info.needs_queries},
                    {"description", info.description}});
  }
  return list;
}

ordered_json devices_json() {
  ordered_json list = ordered_json::array();
  list.push_back(
      {{"device", "cpu"}, {"threads", available_threads()}, {"instruction_set", isa_name(active_isa())}});
  for (const GpuInfo& gpu : available_gpus()) {
    list.push_back({{"device", fmt::format("cuda:{}", gpu.index)},
                    {"name", gpu.name},
                    {"compute_capability", gpu.compute_capability},
                    {"memory_bytes", gpu.memory_bytes}});
  }
  return list;
}

void print_quantizers() {
  for (const QuantizerInfo& info : quantizer_registry()) {
    fmt::print("{}\n  {}\n  source: {}\n  devices: {}\n", info.name, info.summary, info.source,
               fmt::join(devices_of(info), ", "));
    if (info.value_name != info.name) fmt::print("  values use: {}\n", info.value_name);
    print_parameters(info.parameters);
  }
  for (const evaluation::CalibratedInfo& info : evaluation::calibrated_registry()) {
    fmt::print("{}\n  {}\n  source: {}\n  devices: {}\n  values use: {}\n", info.name, info.summary,
               info.source, fmt::join(devices_of(info), ", "), info.values);
    print_parameters(info.parameters);
  }
  fmt::print("every quantizer also takes\n");
  print_parameters(evaluation::sequence_parameters());
}

void print_schemes() {
  for (const evaluation::Scheme& scheme : evaluation::scheme_registry()) {
    fmt::print("{}\n  {}\n  keys: {}\n  values: {}\n", scheme.name, scheme.summary, scheme.keys,
               scheme.values);
    print_parameters(scheme.parameters);
  }
}

void print_rotations() {
  fmt::print("{:<12} {:<6} {:<14} {:<26} {}\n", "rotation", "block", "cost/coord.", "stored parameters",
             "known as");
  for (const RotationInfo& info : rotation_registry()) {
    fmt::print("{:<12} {:<6} {:<14} {:<26} {}\n", info.name, info.block, info.cost, info.stored_parameters,
               info.known_as);
  }
  fmt::print("\n");
}

void print_metrics() {
  for (const evaluation::MetricInfo& info : evaluation::metric_registry()) {
    fmt::print("{:<26} {:<9} {:<6} {}\n", info.tag, better_text(info.better), info.unit, info.description);
  }
  fmt::print("\n");
}

void print_devices() {
  fmt::print("cpu: {} threads, instruction set {}\n", available_threads(), isa_name(active_isa()));
  for (const GpuInfo& gpu : available_gpus()) {
    fmt::print("cuda:{}: {}, compute capability {}.{}, {:.1f} GiB\n", gpu.index, gpu.name,
               gpu.compute_capability / 10, gpu.compute_capability % 10,
               static_cast<double>(gpu.memory_bytes) / (1 << 30));
  }
  if (!built_with_cuda()) fmt::print("built without CUDA\n");
}

struct Topic {
  const char* name;
  ordered_json (*json)();
  void (*print)();
};

constexpr Topic topics[] = {{"quantizers", quantizers_json, print_quantizers},
                            {"schemes", schemes_json, print_schemes},
                            {"rotations", rotations_json, print_rotations},
                            {"metrics", metrics_json, print_metrics},
                            {"devices", devices_json, print_devices}};

void run_list(const std::string& topic, bool json) {
  ordered_json out;
  bool found = false;
  for (const Topic& candidate : topics) {
    if (!topic.empty() && topic != candidate.name) continue;
    found = true;
    if (json) {
      out[candidate.name] = candidate.json();
    } else {
      candidate.print();
    }
  }
  if (!found)
    throw UsageError(
        fmt::format("list '{}'; valid: quantizers, schemes, rotations, metrics, devices", topic));
  if (json) fmt::print("{}\n", out.dump(2));
}

}  // namespace

void add_list_command(CLI::App& app, const Invocation&) {
  CLI::App* command = app.add_subcommand(
      "list", "Show the quantizers, schemes, rotations, metrics and devices of this build");
  struct Options {
    std::string topic;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  command->add_option("topic", options->topic,
                      "quantizers, schemes, rotations, metrics or devices; all when absent");
  command->add_flag("--json", options->json, "As JSON");
  command->callback([options] { run_list(options->topic, options->json); });
}

}  // namespace rotorquant::app
