#pragma once
// What the commands of the tool share: common options and how a command joins the tool.
#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "evaluation/calibration/fit.hpp"

namespace rotorquant::app {

// The command line as started, for reports.
struct Invocation {
  std::vector<std::string> argv;
};

// Each adds its subcommand; the work is done by the subcommand's callback, which throws UsageError or Error.
void add_list_command(CLI::App& app, const Invocation& invocation);
void add_inspect_command(CLI::App& app, const Invocation& invocation);
void add_synth_command(CLI::App& app, const Invocation& invocation);
void add_calibrate_command(CLI::App& app, const Invocation& invocation);
void add_reconstruct_command(CLI::App& app, const Invocation& invocation);
void add_sweep_command(CLI::App& app, const Invocation& invocation);
void add_compare_command(CLI::App& app, const Invocation& invocation);
void add_bench_command(CLI::App& app, const Invocation& invocation);
void add_tables_command(CLI::App& app, const Invocation& invocation);
void add_figures_command(CLI::App& app, const Invocation& invocation);

// Options that several commands understand; a command adds those that make sense for it.
struct CommonOptions {
  std::string device = "cpu";
  int threads = 0;  // 0 = as many as OpenMP gives
  std::string layers;
  std::string heads;
  std::int64_t max_tokens = 0;
  std::string output;
  bool quiet = false;
  bool json = false;

  // --device, --threads
  void add_execution(CLI::App& command);
  // --layers, --heads, --max-tokens
  void add_selection(CLI::App& command);
  // -o/--output, --quiet, --json
  void add_output(CLI::App& command, const std::string& output_help);

  int thread_count() const;
};

// How the blocks of calibrated keys are fitted: --blocks, --cascade-layers, --centroid-bits.
struct FitOptions {
  std::string blocks = "general";
  evaluation::FitSettings settings;

  void add(CLI::App& command);
  // With the blocks that were named. Errors: UsageError.
  evaluation::FitSettings parsed() const;
};

// Refuses a device the tool cannot use, in one line: an unknown name (UsageError), or CUDA without a GPU
// (Error).
void check_device(const std::string& device);

// INDEX of cuda:INDEX; 0 for any other device.
int gpu_index(const std::string& device);

// The name of the GPU that a checked device means; nothing for the CPU.
std::optional<std::string> gpu_name(const std::string& device);

// Refuses, as a UsageError, an output that is one of the inputs or another output, under whatever name. Empty
// names and "-" are none.
void check_outputs(const std::vector<std::string>& inputs, const std::vector<std::string>& outputs);

// An output that only a file can be: neither empty nor "-".
void check_file_output(const std::string& path);

}  // namespace rotorquant::app
