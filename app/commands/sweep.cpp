// rotorquant sweep: any number of quantizers over bit widths and seeds on captured tensors.
#include <fmt/format.h>

#include "commands/sweep_options.hpp"

namespace rotorquant::app {

void add_sweep_command(CLI::App& app, const Invocation& invocation) {
  CLI::App* command = app.add_subcommand(
      "sweep", "Measure quantizers at several bit widths and seeds on dumps, and write a JSON report");
  struct Options : SweepOptions {
    std::vector<std::string> quantizers;
    std::vector<std::string> keys;
    std::vector<std::string> values;
    std::optional<std::string> baseline;
  };
  auto options = std::make_shared<Options>();
  options->add_to(*command);
  command
      ->add_option("--quantizers", options->quantizers,
                   "Quantizers for keys and values, such as rotorquant,turboquant")
      ->delimiter(',');
  command->add_option("--keys", options->keys, "Quantizers for keys, with --values")->delimiter(',');
  command->add_option("--values", options->values, "Quantizers for values, with --keys")->delimiter(',');
  command->add_option("--baseline", options->baseline, "Compare every other quantizer with this one");
  command->footer(
      "A quantizer is name or name:key=value:key=value; 'rotorquant list quantizers' shows all.\n"
      "Example: rotorquant sweep data/smollm2-python-small.h5 --quantizers "
      "rotorquant,turboquant:rotation=hadamard "
      "--bits 2-4 --seeds 0-9 -o report.json");
  command->callback([options, &invocation] {
    evaluation::SweepRequest request = options->request();
    if (!options->quantizers.empty() || !options->keys.empty() || !options->values.empty()) {
      request.quantizers = options->quantizers;
      request.keys = options->keys;
      request.values = options->values;
    }
    if (options->baseline) request.baseline = *options->baseline;
    run_and_report(*options, request, invocation);
  });
}

}  // namespace rotorquant::app
