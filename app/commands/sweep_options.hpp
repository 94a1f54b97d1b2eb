#pragma once
// Options that `sweep` and `compare` share: which dumps, which experiment, how to run it, where the report
// goes.
#include <optional>
#include <string>
#include <vector>

#include "commands/command.hpp"
#include "evaluation/dump/dump.hpp"
#include "evaluation/report/provenance.hpp"
#include "evaluation/sweep/request.hpp"
#include "evaluation/sweep/sweep.hpp"

namespace rotorquant::app {

struct SweepOptions {
  CommonOptions common;
  std::vector<std::string> dump_paths;
  std::string config_path;
  std::string bits;
  std::string seeds;
  std::optional<std::int64_t> sinks;
  std::optional<std::int64_t> min_context;
  std::string transforms;
  bool exact_metrics = false;
  std::vector<std::string> metrics;
  std::vector<std::string> maps;
  std::optional<double> softmax_scale;
  std::string cells_path;
  bool resume = false;

  void add_to(CLI::App& command);

  // The configuration file, if any, with what the command line says instead of it.
  evaluation::SweepRequest request() const;
  std::vector<evaluation::Dump> open_dumps(const evaluation::SweepRequest& request) const;
  evaluation::SweepExecution execution() const;
};

// Runs the request, compares every setting with `request.baseline` at the same width (none when it is empty),
// writes the report and the cells, and prints tables. `tables_first`: a verdict is what the reader came for
// (compare), or an appendix.
void run_and_report(const SweepOptions& options, const evaluation::SweepRequest& request,
                    const Invocation& invocation);

}  // namespace rotorquant::app
