#include "commands/sweep_options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "evaluation/metrics/metric_registry.hpp"
#include "evaluation/report/atomic_file.hpp"
#include "evaluation/report/report.hpp"
#include "evaluation/report/tables.hpp"
#include "evaluation/statistics/comparison.hpp"
#include "evaluation/sweep/compare_settings.hpp"
#include "evaluation/sweep/ranges.hpp"
#include "evaluation/sweep/settings.hpp"
#include "rotorquant/core/dispatch.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::app {
namespace {

constexpr std::int64_t largest_index = 1'000'000;

bool holds_baseline(const evaluation::SweepRequest& request) {
  if (request.baseline.empty()) return true;
  const std::vector<std::string> labels = evaluation::setting_labels(request);
  return std::find(labels.begin(), labels.end(), request.baseline) != labels.end();
}

// What tables show on a terminal: the report's own view of itself.
void print_tables(const nlohmann::ordered_json& report) {
  const std::vector<evaluation::ReportFile> reports = {{"", report}};
  fmt::print("{}", evaluation::render_text(evaluation::build_tables(reports, {})));
  if (!report.contains("comparisons")) return;
  evaluation::TableOptions verdicts;
  verdicts.layout = evaluation::TableLayout::compare;
  fmt::print("\n{}", evaluation::render_text(evaluation::build_tables(reports, verdicts)));
}

}  // namespace

void SweepOptions::add_to(CLI::App& command) {
  command.add_option("dumps", dump_paths, "Dumps of captured keys, values and queries (HDF5)")
      ->required()
      ->type_name("DUMP");
  command.add_option("--config", config_path, "Experiment as JSON; options given here replace what it says")
      ->type_name("FILE");
  command.add_option("--bits", bits, "Bit widths, such as 2,3,4 or 2-4 (default 2,3,4)");
  command.add_option("--seeds", seeds, "Seeds, such as 0-9");
  command.add_option("--sinks", sinks, "Keep the first N tokens in 16 bits, for every quantizer; charged")
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--transforms", transforms,
                  "Transforms of 'rotorquant calibrate', for rotorquant-calibrated")
      ->type_name("FILE");
  command.add_option("--min-context", min_context, "Leave out queries that see fewer than N earlier keys")
      ->check(CLI::NonNegativeNumber);
  command.add_flag(
      "--exact-metrics", exact_metrics,
      "Attention metrics in float64 throughout: four times slower, the fourth digit may differ");
  command.add_option("--metrics", metrics, "Metrics shown in tables; reports hold all")->delimiter(',');
  common.add_selection(command);
  command.add_option("--map", maps,
                     "Where another format keeps its tensors: key=/path,axes=LHTD (repeatable)");
  command
      .add_option("--softmax-scale", softmax_scale,
                  "In place of the dump's; 1/sqrt(head_dim) for mapped files")
      ->check(CLI::PositiveNumber);
  common.add_execution(command);
  common.add_output(command, "The JSON report");
  command.add_option("--cells", cells_path, "Write one line per seed, layer and head to this file")
      ->type_name("FILE");
  command.add_flag("--resume", resume, "Continue an interrupted run of the same command");
}

evaluation::SweepRequest SweepOptions::request() const {
  evaluation::SweepRequest request =
      config_path.empty() ? evaluation::SweepRequest{} : evaluation::read_config(config_path);
  if (!bits.empty()) request.bits = evaluation::parse_ranges(bits, "bits", min_bits, max_bits);
  if (!seeds.empty()) request.seeds = evaluation::parse_ranges(seeds, "seeds", 0, largest_index);
  if (!common.layers.empty())
    request.layers = evaluation::parse_ranges(common.layers, "layers", 0, largest_index);
  if (!common.heads.empty())
    request.heads = evaluation::parse_ranges(common.heads, "heads", 0, largest_index);
  if (common.max_tokens > 0) request.max_tokens = common.max_tokens;
  if (sinks) request.sinks = *sinks;
  if (!transforms.empty()) request.transforms = transforms;
  if (min_context) request.min_context = *min_context;
  if (exact_metrics) request.exact_metrics = true;
  if (!metrics.empty()) request.metrics = metrics;
  try {
    for (const std::string& metric : request.metrics) evaluation::check_table_metric(metric);
  } catch (const UsageError& error) {
    if (config_path.empty() || !metrics.empty()) throw;
    throw UsageError(fmt::format("config {}: {}", config_path, error.what()));
  }
  return request;
}

std::vector<evaluation::Dump> SweepOptions::open_dumps(const evaluation::SweepRequest& request) const {
  evaluation::DumpOptions options;
  if (!maps.empty()) options.maps = evaluation::parse_axis_maps(maps);
  if (request.max_tokens > 0) options.max_tokens = request.max_tokens;
  options.softmax_scale = softmax_scale;
  std::vector<evaluation::Dump> dumps;
  for (const std::string& path : dump_paths) dumps.push_back(evaluation::Dump::open(path, options));
  return dumps;
}

evaluation::SweepExecution SweepOptions::execution() const {
  evaluation::SweepExecution execution;
  execution.threads = common.thread_count();
  execution.space = common.device == "cpu" ? Space::cpu : Space::cuda;
  execution.gpu = gpu_index(common.device);
  execution.quiet = common.quiet;
  execution.resume = resume;
  execution.maps = maps;
  // A report on a stream leaves no place for a journal beside it.
  if (!common.output.empty() && !evaluation::is_stream(common.output))
    execution.journal_path = common.output + ".journal";
  return execution;
}

void run_and_report(const SweepOptions& options, const evaluation::SweepRequest& request,
                    const Invocation& invocation) {
  check_device(options.common.device);
  std::vector<std::string> inputs = options.dump_paths;
  inputs.insert(inputs.end(), {options.config_path, request.transforms});
  check_outputs(inputs, {options.common.output, options.cells_path});
  for (std::size_t i = 0; i < options.dump_paths.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      std::error_code ignored;
      if (!std::filesystem::equivalent(options.dump_paths[i], options.dump_paths[j], ignored)) continue;
      throw UsageError(fmt::format("dump {} is given twice", options.dump_paths[i]));
    }
  }
  if (!holds_baseline(request)) {
    throw UsageError(fmt::format("baseline '{}': not among the quantizers; valid: {}", request.baseline,
                                 fmt::join(evaluation::setting_labels(request), ", ")));
  }
  evaluation::RunInfo run;
  run.argv = invocation.argv;
  run.config = evaluation::to_json(request);
  run.device = options.common.device;
  run.gpu = gpu_name(options.common.device);
  run.threads = options.common.thread_count();
  const std::vector<evaluation::Dump> dumps = options.open_dumps(request);
  const evaluation::SweepExecution execution = options.execution();
  const evaluation::SweepResult result = evaluation::run_sweep(request, dumps, execution);
  const nlohmann::ordered_json report = evaluation::build_report(
      run, result, evaluation::compare_settings(result, request.baseline, {execution.threads}));
  if (!options.cells_path.empty()) evaluation::write_cells(options.cells_path, result);
  if (!options.common.output.empty()) evaluation::write_report(options.common.output, report);
  evaluation::discard_journal(execution);
  if (options.common.json && options.common.output != "-") fmt::print("{}", evaluation::report_text(report));
  if (!options.common.json && !options.common.quiet && options.common.output != "-") print_tables(report);
}

}  // namespace rotorquant::app
