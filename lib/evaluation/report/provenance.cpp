#include "evaluation/report/provenance.hpp"

#include <fmt/format.h>
#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "evaluation/report/build_info.hpp"
#include "evaluation/report/report.hpp"
#include "rotorquant/core/isa.hpp"
#include "rotorquant/version.hpp"

namespace rotorquant::evaluation {
namespace {

struct NeutralArgument {
  std::string_view name;
  bool has_value;
};

constexpr std::array<NeutralArgument, 8> neutral_arguments{{{"-o", true},
                                                            {"--output", true},
                                                            {"--cells", true},
                                                            {"--journal", true},
                                                            {"--threads", true},
                                                            {"--quiet", false},
                                                            {"--json", false},
                                                            {"--resume", false}}};

}  // namespace

std::vector<std::string> deciding_arguments(const std::vector<std::string>& argv) {
  std::vector<std::string> kept;
  for (std::size_t i = 0; i < argv.size(); ++i) {
    const std::string_view argument = argv[i];
    if (i == 0) {
      kept.push_back(std::filesystem::path(argument).filename().string());
      continue;
    }
    const auto neutral = std::find_if(
        neutral_arguments.begin(), neutral_arguments.end(), [&](const NeutralArgument& candidate) {
          if (argument == candidate.name) return true;
          if (!candidate.has_value || !argument.starts_with(candidate.name)) return false;
          // -oFILE and --output=FILE
          return !candidate.name.starts_with("--") || argument[candidate.name.size()] == '=';
        });
    if (neutral == neutral_arguments.end()) {
      kept.push_back(argv[i]);
    } else if (neutral->has_value && argument == neutral->name) {
      ++i;
    }
  }
  return kept;
}

std::string utc_timestamp(std::chrono::system_clock::time_point time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
                     utc.tm_hour, utc.tm_min, utc.tm_sec);
}

std::string cpu_model() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  utsname system{};
  return uname(&system) == 0 ? system.machine : "unknown";
}

nlohmann::ordered_json provenance_json(const RunInfo& run) {
  using Json = nlohmann::ordered_json;
  Json meta;
  meta["schema"] = report_schema;
  meta["tool"] = "rotorquant";
  meta["version"] = version;
  const std::string_view state = build_info::git_state;
  meta["git"] = {{"revision", build_info::git_revision},
                 {"dirty", state == "unknown" ? Json() : Json(state == "dirty")}};
  meta["argv"] = deciding_arguments(run.argv);
  meta["config"] = run.config;
  meta["compiler"] = build_info::compiler;
  meta["flags"] = build_info::flags;
  meta["isa"] = isa_name(active_isa());
  meta["cpu"] = cpu_model();
  meta["gpu"] = run.gpu ? Json(*run.gpu) : Json();
  return meta;
}

nlohmann::ordered_json run_time_json(const RunInfo& run, double seconds) {
  return {
      {"utc", utc_timestamp(run.start)}, {"seconds", seconds}, {"threads", run.threads}, {"argv", run.argv}};
}

}  // namespace rotorquant::evaluation
