// rotorquant calibrate: fits the transforms of rotorquant-calibrated to captured keys and queries.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "commands/command.hpp"
#include "evaluation/calibration/dump_data.hpp"
#include "evaluation/calibration/transforms_file.hpp"
#include "evaluation/sweep/progress.hpp"
#include "evaluation/sweep/ranges.hpp"
#include "rotorquant/core/dispatch.hpp"

namespace rotorquant::app {
namespace {

constexpr std::int64_t largest_index = 1'000'000;

struct CalibrateOptions {
  CommonOptions common;
  std::vector<std::string> dump_paths;
  std::string bits = "2,3,4";
  FitOptions fit;
  std::string metric = "attention";
};

// Per bit width: how far the objective came from no mixing towards what any invertible matrix could reach.
void print_summary(const evaluation::TransformSet& set, const std::string& path) {
  fmt::print("{:>4}  {:>24}  {:>24}\n", "bits", "objective, no mixing", "fitted");
  for (std::size_t b = 0; b < set.settings.bits.size(); ++b) {
    double before = 0.0, after = 0.0;
    for (const evaluation::HeadFit& head : set.heads) {
      before += head.bits[b].objective.before - head.bits[b].objective.bound;
      after += head.bits[b].objective.after - head.bits[b].objective.bound;
    }
    const auto heads = static_cast<double>(set.heads.size());
    fmt::print("{:>4}  {:>24.4f}  {:>24.4f}\n", set.settings.bits[b], before / heads, after / heads);
  }
  fmt::print(
      "Mean over {} heads of the excess over the best invertible matrix, in nats a vector. Written: {}\n",
      set.heads.size(), path);
}

nlohmann::ordered_json summary_json(const evaluation::TransformSet& set, const std::string& path) {
  nlohmann::ordered_json out;
  out["transforms"] = path;
  out["heads"] = nlohmann::ordered_json::array();
  for (const evaluation::HeadFit& head : set.heads) {
    for (const evaluation::BitsFit& fit : head.bits) {
      out["heads"].push_back({{"layer", head.layer},
                              {"head", head.kv_head},
                              {"bits", fit.bits},
                              {"objective",
                               {{"before", fit.objective.before},
                                {"start", fit.objective.start},
                                {"after", fit.objective.after},
                                {"bound", fit.objective.bound}}}});
    }
  }
  return out;
}

void run_calibrate(CalibrateOptions& options) {
  check_file_output(options.common.output);
  check_outputs(options.dump_paths, {options.common.output});
  evaluation::FitSettings settings = options.fit.parsed();
  settings.bits.clear();
  for (const std::int64_t bits : evaluation::parse_ranges(options.bits, "bits", min_bits, max_bits)) {
    settings.bits.push_back(static_cast<int>(bits));
  }
  settings.metric = evaluation::parse_query_metric(options.metric);
  settings.validate();
  std::optional<std::vector<std::int64_t>> layers;
  if (!options.common.layers.empty()) {
    layers = evaluation::parse_ranges(options.common.layers, "layers", 0, largest_index);
  }
  evaluation::DumpOptions dump_options;
  if (options.common.max_tokens > 0) dump_options.max_tokens = options.common.max_tokens;
  std::vector<evaluation::Dump> dumps;
  for (const std::string& path : options.dump_paths)
    dumps.push_back(evaluation::Dump::open(path, dump_options));
  const evaluation::CalibrationData data = evaluation::load_calibration_data(dumps, layers);
  evaluation::TransformSet set;
  {
    evaluation::Progress progress("calibrate", static_cast<std::int64_t>(data.inputs.size()), 0,
                                  options.common.quiet);
    set = evaluation::fit_transforms({options.common.thread_count()}, data.inputs, data.model, settings,
                                     [&](std::int64_t, std::int64_t) { progress.advance(); });
  }
  set.sources = data.sources;
  evaluation::write_transforms(set, options.common.output);
  if (options.common.json) {
    fmt::print("{}\n", summary_json(set, options.common.output).dump(2));
  } else if (!options.common.quiet) {
    print_summary(set, options.common.output);
  }
}

}  // namespace

void add_calibrate_command(CLI::App& app, const Invocation&) {
  CLI::App* command =
      app.add_subcommand("calibrate", "Fit rotorquant-calibrated to dumps, and write its transforms");
  auto options = std::make_shared<CalibrateOptions>();
  evaluation::FitSettings& settings = options->fit.settings;
  command->add_option("dumps", options->dump_paths, "Dumps with queries; several are pooled")
      ->required()
      ->type_name("FIT");
  command->add_option("--bits", options->bits, "Bit widths to fit")->capture_default_str();
  options->fit.add(*command);
  command
      ->add_option("--metric", options->metric, "What errors of a key cost: attention, uniform or identity")
      ->capture_default_str();
  command->add_option("--iterations", settings.iterations, "Of L-BFGS")
      ->check(CLI::Range(0, 100000))
      ->capture_default_str();
  command->add_option("--seed", settings.seed, "Of k-means")->capture_default_str();
  command->add_option("--layers", options->common.layers, "Only these layers, such as 0,5-9");
  command->add_option("--max-tokens", options->common.max_tokens, "Only the first N tokens; 0 for all")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--threads", options->common.threads, "CPU threads; 0 for all")
      ->check(CLI::Range(0, 4096));
  options->common.add_output(*command, "The transforms (HDF5)");
  command->get_option("--output")->required();
  command->footer("Example: rotorquant calibrate data/smollm2-jargon-small.h5 -o transforms.h5");
  command->callback([options] { run_calibrate(*options); });
}

}  // namespace rotorquant::app
