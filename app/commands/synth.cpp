// rotorquant synth: seeded dumps with queries, whose geometry is known.
#include "evaluation/dump/synth.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "commands/command.hpp"
#include "evaluation/dump/sha256.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::app {
namespace {

struct SynthCommandOptions {
  CommonOptions common;
  evaluation::SynthOptions synth;
  std::string path;
  std::string profile = "isotropic";
  std::string type = "float32";
};

evaluation::ElementType parse_type(const std::string& name) {
  const std::vector<std::string> names = {"float16", "float32", "bfloat16"};
  if (name == "float16") return evaluation::ElementType::float16;
  if (name == "float32") return evaluation::ElementType::float32;
  if (name == "bfloat16") return evaluation::ElementType::bfloat16;
  throw UsageError(fmt::format("unknown type '{}'; valid are {}{}", name, fmt::join(names, ", "),
                               nearest_hint(name, names)));
}

void run_synth(SynthCommandOptions& options) {
  options.synth.profile = evaluation::parse_synth_profile(options.profile);
  options.synth.type = parse_type(options.type);
  evaluation::write_synthetic_dump(options.path, options.synth, Context{options.common.thread_count()});
  const std::string sha256 = evaluation::file_sha256(options.path);
  if (options.common.json) {
    fmt::print("{}\n", nlohmann::ordered_json{{"path", options.path}, {"sha256", sha256}}.dump(2));
  } else if (!options.common.quiet) {
    const evaluation::SynthOptions& synth = options.synth;
    fmt::print("{}: {}, {} layers, {} KV heads, {} query heads, {} tokens, head_dim {}\nsha256 {}\n",
               options.path, options.profile, synth.layers, synth.kv_heads, synth.query_heads, synth.tokens,
               synth.head_dim, sha256);
  }
}

}  // namespace

void add_synth_command(CLI::App& app, const Invocation&) {
  CLI::App* command = app.add_subcommand("synth", "Write a synthetic dump with queries, of any size");
  auto options = std::make_shared<SynthCommandOptions>();
  evaluation::SynthOptions& synth = options->synth;
  command->add_option("out", options->path, "The dump to write (HDF5)")->required()->type_name("OUT");
  command->add_option("--profile", options->profile, "isotropic, outliers, anisotropic or one-hot")
      ->capture_default_str();
  command->add_option("--layers", synth.layers, "Layers")->capture_default_str();
  command->add_option("--kv-heads", synth.kv_heads, "KV heads of each layer")->capture_default_str();
  command
      ->add_option("--query-heads", synth.query_heads,
                   "Query heads, a multiple of the KV heads; 0 for no queries")
      ->capture_default_str();
  command->add_option("--tokens", synth.tokens, "Tokens")->capture_default_str();
  command->add_option("--head-dim", synth.head_dim, "Channels of each head")->capture_default_str();
  command->add_option("--seed", synth.seed, "Seed of the random numbers")->capture_default_str();
  command->add_option("--type", options->type, "Element type: float16, float32 or bfloat16")
      ->capture_default_str();
  command
      ->add_option("--threads", options->common.threads,
                   "CPU threads; 0 for all; the file is the same for any")
      ->check(CLI::NonNegativeNumber);
  command->add_flag("--quiet", options->common.quiet, "Print nothing");
  command->add_flag("--json", options->common.json, "Write path and sha256 to standard output as JSON");
  command->footer("Example: rotorquant synth isotropic.h5 --profile isotropic --tokens 4096 --head-dim 128");
  command->callback([options] { run_synth(*options); });
}

}  // namespace rotorquant::app
