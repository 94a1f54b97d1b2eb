#pragma once
// Where a report's numbers come from: the binary, the command and the machine.
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace rotorquant::evaluation {

// What the caller knows about a run; the rest is looked up.
struct RunInfo {
  std::vector<std::string> argv;  // as started, program first
  // The settings in effect that decide the numbers, after defaults, configuration file and command line.
  nlohmann::ordered_json config = nlohmann::ordered_json::object();
  std::string device = "cpu";      // of every row: "cpu", "cuda:0"
  std::optional<std::string> gpu;  // its name, when one was used
  int threads = 1;
  std::chrono::system_clock::time_point start = std::chrono::system_clock::now();
};

// `argv` less what cannot change a number: the program's folder and the arguments that say where results go,
// how many threads compute them, how progress is shown and whether a journal is continued. Two runs of one
// experiment give equal lists.
std::vector<std::string> deciding_arguments(const std::vector<std::string>& argv);

// "2026-01-31T12:00:00Z".
std::string utc_timestamp(std::chrono::system_clock::time_point time);

// The processor's model name, or its architecture where the system does not tell.
std::string cpu_model();

// The report's `meta` as far as it does not depend on what was measured, without `time`.
nlohmann::ordered_json provenance_json(const RunInfo& run);

// `meta.time`: what may differ between two runs of one experiment; `seconds` is the wall time.
nlohmann::ordered_json run_time_json(const RunInfo& run, double seconds);

}  // namespace rotorquant::evaluation
