// The command-line tool. Exit codes: 0 done, 1 failed (one line on standard error says why), 2 the command
// line is wrong.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <new>

#include "commands/command.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/version.hpp"

namespace {

constexpr int exit_failed = 1;
constexpr int exit_usage = 2;

int report(int code, const char* message) {
  std::fflush(stdout);
  fmt::print(stderr, "rotorquant: {}\n", message);
  return code;
}

// CLI11 would say of an unknown command only that one is missing.
void check_command_name(const CLI::App& app, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return;
  std::vector<std::string> known;
  for (const CLI::App* command : app.get_subcommands({})) known.push_back(command->get_name());
  if (std::find(known.begin(), known.end(), argv[1]) != known.end()) return;
  throw rotorquant::UsageError(fmt::format("unknown command '{}'{}; valid: {}", argv[1],
                                           rotorquant::nearest_hint(argv[1], known), fmt::join(known, ", ")));
}

}  // namespace

int main(int argc, char** argv) {
  using namespace rotorquant::app;
  CLI::App app("Evaluates KV-cache quantizers on captured attention tensors.", "rotorquant");
  app.set_version_flag("--version", std::string("rotorquant ") + rotorquant::version);
  app.require_subcommand(1);
  app.footer("Exit codes: 0 done, 1 failed, 2 wrong usage. 'rotorquant COMMAND --help' tells more.");
  const Invocation invocation{{argv, argv + argc}};
  add_list_command(app, invocation);
  add_inspect_command(app, invocation);
  add_synth_command(app, invocation);
  add_sweep_command(app, invocation);
  add_compare_command(app, invocation);
  add_calibrate_command(app, invocation);
  add_bench_command(app, invocation);
  add_tables_command(app, invocation);
  add_figures_command(app, invocation);
  add_reconstruct_command(app, invocation);
  try {
    check_command_name(app, argc, argv);
    app.parse(argc, argv);
    if (std::fflush(stdout) != 0) throw rotorquant::Error("standard output cannot be written");
  } catch (const CLI::ParseError& error) {
    // Help and version arrive here as well, with exit code 0.
    if (error.get_exit_code() == 0) return app.exit(error);
    return report(exit_usage, error.what());
  } catch (const rotorquant::UsageError& error) {
    return report(exit_usage, error.what());
  } catch (const std::bad_alloc&) {
    return report(exit_failed,
                  "out of memory; valid: fewer tokens (--max-tokens) or fewer threads (--threads)");
  } catch (const std::exception& error) {
    return report(exit_failed, error.what());
  }
  return 0;
}
