// rotorquant inspect: what a dump holds, and whether it is sound.
#include "evaluation/dump/inspect.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "commands/command.hpp"
#include "evaluation/dump/validator.hpp"
#include "evaluation/report/atomic_file.hpp"
#include "evaluation/sweep/ranges.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::app {
namespace {

struct InspectOptions {
  CommonOptions common;
  std::string path;
  std::vector<std::string> maps;
  std::optional<double> softmax_scale;
  bool validate = false;

  evaluation::DumpOptions dump_options() const {
    evaluation::DumpOptions options;
    options.maps = evaluation::parse_axis_maps(maps);
    if (common.max_tokens > 0) options.max_tokens = common.max_tokens;
    options.softmax_scale = softmax_scale;
    return options;
  }
};

// The layers asked for, all of which the dump must hold; every layer when none is named.
std::vector<std::int64_t> chosen_layers(const evaluation::Dump& dump, const std::string& text) {
  const evaluation::DumpInfo& info = dump.info();
  if (text.empty()) return info.layers;
  const auto layers = evaluation::parse_ranges(text, "layers", 0, info.num_layers - 1);
  for (const std::int64_t layer : layers) {
    if (std::find(info.layers.begin(), info.layers.end(), layer) != info.layers.end()) continue;
    throw UsageError(
        fmt::format("layer {} is not in {}; valid: {}", layer, dump.path(), fmt::join(info.layers, ", ")));
  }
  return layers;
}

std::vector<std::int64_t> chosen_heads(const evaluation::Dump& dump, const std::string& text) {
  if (!text.empty()) return evaluation::parse_ranges(text, "heads", 0, dump.info().num_kv_heads - 1);
  std::vector<std::int64_t> heads(static_cast<std::size_t>(dump.info().num_kv_heads));
  std::iota(heads.begin(), heads.end(), std::int64_t{0});
  return heads;
}

// The result goes to the file as JSON when one is named, and to the terminal as --json and --quiet say.
void show(const CommonOptions& common, const nlohmann::ordered_json& json, const std::string& text) {
  const std::string json_text = json.dump(2) + "\n";
  if (!common.output.empty()) evaluation::write_file_atomically(common.output, json_text);
  if (common.json && common.output != "-") {
    fmt::print("{}", json_text);
  } else if (!common.quiet && common.output != "-") {
    fmt::print("{}", text);
  }
}

void run_validate(const InspectOptions& options) {
  check_outputs({options.path}, {options.common.output});
  const auto problems = evaluation::validate_dump(options.path, options.dump_options());
  show(options.common, evaluation::problems_json(options.path, problems),
       evaluation::problems_text(options.path, problems));
  if (!problems.empty()) {
    throw Error(fmt::format("{}: {} problem{}; the first: {}: {}", options.path, problems.size(),
                            problems.size() == 1 ? "" : "s", problems[0].path, problems[0].message));
  }
}

void run_inspect(const InspectOptions& options) {
  if (options.validate) return run_validate(options);
  check_outputs({options.path}, {options.common.output});
  const evaluation::Dump dump = evaluation::Dump::open(options.path, options.dump_options());
  const auto inspection = evaluation::inspect_dump(dump, chosen_layers(dump, options.common.layers),
                                                   chosen_heads(dump, options.common.heads),
                                                   Context{options.common.thread_count()});
  show(options.common, evaluation::inspection_json(inspection), evaluation::inspection_text(inspection));
}

}  // namespace

void add_inspect_command(CLI::App& app, const Invocation&) {
  CLI::App* command =
      app.add_subcommand("inspect", "Show shapes, norms, outliers and isotropy of a dump, or validate it");
  auto options = std::make_shared<InspectOptions>();
  command->add_option("dump", options->path, "Dump of captured keys, values and queries (HDF5)")
      ->required()
      ->type_name("DUMP");
  command->add_flag(
      "--validate", options->validate,
      "Check everything, every value included, and list all problems; exit code 1 if there is one");
  options->common.add_selection(*command);
  command->add_option("--map", options->maps,
                      "Where another format keeps its tensors: key=/path,axes=LHTD (repeatable)");
  command
      ->add_option("--softmax-scale", options->softmax_scale,
                   "In place of the dump's; 1/sqrt(head_dim) for mapped files")
      ->check(CLI::PositiveNumber);
  command->add_option("--threads", options->common.threads, "CPU threads; 0 for all")
      ->check(CLI::NonNegativeNumber);
  options->common.add_output(*command, "Write the result to this file as JSON; - for standard output");
  command->footer(
      "Example: rotorquant inspect data/smollm2-python-small.h5\n"
      "Another layout: rotorquant inspect cache.h5 --map key=/k,axes=LBHTD --map value=/v,axes=LBHTD");
  command->callback([options] { run_inspect(*options); });
}

}  // namespace rotorquant::app
