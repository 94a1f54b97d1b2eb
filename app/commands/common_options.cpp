#include <fmt/format.h>

#include <filesystem>
#include <string>
#include <vector>

#include "commands/command.hpp"
#include "evaluation/calibration/transforms_file.hpp"
#include "evaluation/sweep/ranges.hpp"
#include "rotorquant/core/device.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/parallel.hpp"

namespace rotorquant::app {
namespace {

constexpr int most_threads = 4096;

}  // namespace

void CommonOptions::add_execution(CLI::App& command) {
  command.add_option("--device", device, "Where to compute: cpu, cuda or cuda:INDEX")->capture_default_str();
  command.add_option("--threads", threads, "CPU threads; 0 for all")->check(CLI::Range(0, most_threads));
}

void CommonOptions::add_selection(CLI::App& command) {
  command.add_option("--layers", layers, "Only these layers, such as 0,5-9");
  command.add_option("--heads", heads, "Only these KV heads, such as 0-2");
  command.add_option("--max-tokens", max_tokens, "Only the first N tokens; 0 for all")
      ->check(CLI::NonNegativeNumber);
}

void CommonOptions::add_output(CLI::App& command, const std::string& output_help) {
  command.add_option("-o,--output", output, output_help)->type_name("FILE");
  command.add_flag("--quiet", quiet, "No progress and no tables");
  command.add_flag("--json", json, "Write the result to standard output as JSON");
}

void FitOptions::add(CLI::App& command) {
  constexpr int most_layers = 64;
  command.add_option("--blocks", blocks, "3x3 blocks of a fit: rotor (4 numbers) or general (9)")
      ->capture_default_str();
  command.add_option("--cascade-layers", settings.layers, "Layers of blocks; 0 mixes nothing")
      ->check(CLI::Range(0, most_layers))
      ->capture_default_str();
  command.add_option("--centroid-bits", settings.centroid_bits, "Centroids: 2 to this power")
      ->check(CLI::Range(0, 8))
      ->capture_default_str();
}

evaluation::FitSettings FitOptions::parsed() const {
  evaluation::FitSettings parsed = settings;
  parsed.blocks = evaluation::parse_block_kind(blocks);
  return parsed;
}

int CommonOptions::thread_count() const {
  return threads == 0 ? available_threads() : threads;
}

void check_outputs(const std::vector<std::string>& inputs, const std::vector<std::string>& outputs) {
  const auto same = [](const std::string& a, const std::string& b) {
    std::error_code ignored;
    return a == b || std::filesystem::equivalent(a, b, ignored);
  };
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].empty() || outputs[i] == "-") continue;
    for (const std::string& input : inputs) {
      if (!input.empty() && same(input, outputs[i])) {
        throw UsageError(
            fmt::format("output {}: is an input, which it would replace; valid: another name", outputs[i]));
      }
    }
    for (std::size_t j = 0; j < i; ++j) {
      if (!outputs[j].empty() && same(outputs[j], outputs[i])) {
        throw UsageError(
            fmt::format("output {}: is named for two outputs; valid: different names", outputs[i]));
      }
    }
  }
}

void check_file_output(const std::string& path) {
  if (path.empty() || path == "-")
    throw UsageError(fmt::format("output '{}'; valid: the name of an HDF5 file", path));
}

int gpu_index(const std::string& device) {
  if (!device.starts_with("cuda:")) return 0;
  return static_cast<int>(evaluation::parse_ranges(device.substr(5), "device cuda", 0, 1023).front());
}

std::optional<std::string> gpu_name(const std::string& device) {
  if (device == "cpu") return std::nullopt;
  return available_gpus().at(static_cast<std::size_t>(gpu_index(device))).name;
}

void check_device(const std::string& device) {
  if (device == "cpu") return;
  if (device != "cuda" && !device.starts_with("cuda:"))
    throw UsageError(fmt::format("device '{}'; valid: cpu, cuda or cuda:INDEX", device));
  const int index = gpu_index(device);
  if (!built_with_cuda())
    throw Error(fmt::format("device {}: this build has no CUDA; valid: --device cpu", device));
  const std::vector<GpuInfo> gpus = available_gpus();
  if (static_cast<std::size_t>(index) < gpus.size()) return;
  std::vector<std::string> valid = {"cpu"};
  for (std::size_t i = 0; i < gpus.size(); ++i) valid.push_back(fmt::format("cuda:{}", i));
  throw Error(fmt::format("device {}: {}; valid: --device {}", device,
                          gpus.empty() ? "no GPU is found" : "there is no such GPU", fmt::join(valid, ", ")));
}

}  // namespace rotorquant::app
