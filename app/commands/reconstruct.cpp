// rotorquant reconstruct: the dump again with keys and values as a quantized cache gives them back, so that
// any framework can run them.
#include "evaluation/sweep/reconstruct.hpp"

#include <fmt/format.h>

#include "commands/command.hpp"
#include "evaluation/dump/dump.hpp"
#include "rotorquant/core/dispatch.hpp"

namespace rotorquant::app {

void add_reconstruct_command(CLI::App& app, const Invocation&) {
  CLI::App* command =
      app.add_subcommand("reconstruct", "Write a dump with keys and values as quantization leaves them");
  struct Options {
    CommonOptions common;
    std::string dump_path;
    evaluation::ReconstructRequest request;
  };
  auto options = std::make_shared<Options>();
  evaluation::ReconstructRequest& request = options->request;
  command->add_option("dump", options->dump_path, "Dump of captured keys and values (HDF5)")
      ->required()
      ->type_name("DUMP");
  command->add_option("--quantizer", request.quantizer, "Quantizer for keys and values");
  command->add_option("--keys", request.keys, "Quantizer for keys, with --values");
  command->add_option("--values", request.values, "Quantizer for values, with --keys");
  command->add_option("--bits", request.bits, "Bit width")
      ->check(CLI::Range(min_bits, max_bits))
      ->capture_default_str();
  command->add_option("--seed", request.seed, "Seed of keys; values use the one 100 above")
      ->capture_default_str();
  command->add_option("--sinks", request.sinks, "Keep the first N tokens in 16 bits")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--transforms", request.transforms,
                      "Transforms of 'rotorquant calibrate', for rotorquant-calibrated");
  command->add_option("--max-tokens", options->common.max_tokens, "Only the first N tokens; 0 for all")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--threads", options->common.threads, "CPU threads; 0 for all")
      ->check(CLI::Range(0, 4096));
  command->add_option("-o,--output", options->common.output, "The new dump")->required()->type_name("FILE");
  command->footer(
      "Example: rotorquant reconstruct data/smollm2-python-small.h5 --quantizer turboquant --bits 3 -o "
      "quantized.h5");
  command->callback([options] {
    check_file_output(options->common.output);
    check_outputs({options->dump_path, options->request.transforms}, {options->common.output});
    evaluation::DumpOptions dump_options;
    if (options->common.max_tokens > 0) dump_options.max_tokens = options->common.max_tokens;
    const evaluation::Dump dump = evaluation::Dump::open(options->dump_path, dump_options);
    evaluation::write_reconstruction(dump, options->request, options->common.output,
                                     {options->common.thread_count()});
  });
}

}  // namespace rotorquant::app
