#pragma once
// Runs a sweep: every setting with every seed on every (layer, KV head) of every dump.
//
// The attention of the exact tensors is computed once per head and shared by all settings and seeds. The
// numbers depend on the request and the data alone: not on threads, not on interruptions.
#include <string>
#include <vector>

#include "evaluation/dump/dump.hpp"
#include "evaluation/sweep/request.hpp"
#include "evaluation/sweep/results.hpp"
#include "rotorquant/core/view.hpp"

namespace rotorquant::evaluation {

struct SweepExecution {
  int threads = 1;
  Space space = Space::cpu;       // where quantizers run
  int gpu = 0;                    // with Space::cuda
  bool quiet = false;             // no progress
  std::vector<std::string> maps;  // how the dumps were read (--map): cells depend on it
  std::string journal_path;       // "" = no journal
  bool resume = false;            // continue the journal of an interrupted sweep, if there is one
};

// Errors: UsageError for what the request gets wrong; Error for data that cannot be read or encoded, and when
// the process is asked to stop (SIGINT, SIGTERM), which leaves the journal behind.
SweepResult run_sweep(const SweepRequest& request, const std::vector<Dump>& dumps,
                      const SweepExecution& execution);

// Removes the journal of a sweep whose report is written.
void discard_journal(const SweepExecution& execution);

}  // namespace rotorquant::evaluation
