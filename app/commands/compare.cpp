// rotorquant compare: two quantizers on captured tensors, with a verdict.
#include <fmt/format.h>

#include "commands/sweep_options.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::app {

void add_compare_command(CLI::App& app, const Invocation& invocation) {
  CLI::App* command = app.add_subcommand(
      "compare", "Compare a quantizer with a baseline on dumps, and say which is better, if either is");
  struct Options : SweepOptions {
    std::vector<std::string> candidates;
    std::string baseline = "turboquant";
  };
  auto options = std::make_shared<Options>();
  options->add_to(*command);
  command->add_option("--candidate", options->candidates, "The quantizer, or several")
      ->delimiter(',')
      ->required();
  command->add_option("--baseline", options->baseline, "What to compare it with")->capture_default_str();
  command->footer(
      "Seeds are paired; 95% intervals are bootstrapped over seeds (below 8 seeds: Student's t). On "
      "isotropic data, where methods "
      "cannot differ, "
      "no ranking is given.\nExample: rotorquant compare data/smollm2-python-small.h5 --candidate rotorquant "
      "--baseline turboquant");
  command->callback([options, &invocation] {
    evaluation::SweepRequest request = options->request();
    for (const std::string& candidate : options->candidates) {
      if (candidate == options->baseline) {
        throw UsageError(
            fmt::format("candidate '{}' is the baseline; valid: two different quantizers", candidate));
      }
    }
    request.quantizers = options->candidates;
    request.quantizers.push_back(options->baseline);
    request.keys.clear();
    request.values.clear();
    request.baseline = options->baseline;
    // A comparison needs an interval, and an interval needs seeds.
    if (options->seeds.empty() && options->config_path.empty())
      request.seeds = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    run_and_report(*options, request, invocation);
  });
}

}  // namespace rotorquant::app
