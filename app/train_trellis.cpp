// rotorquant-train-trellis: trains the trellis codebooks of the library and writes them as the data file that
// lib/rotorquant/codebooks/trellis_tables.cpp includes. The same file comes out for any number of threads.
//
//   rotorquant-train-trellis lib/rotorquant/codebooks/trellis_tables.inc
#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "rotorquant/codebooks/trellis_tables.hpp"
#include "rotorquant/codebooks/trellis_training.hpp"
#include "rotorquant/core/error.hpp"

namespace {

using namespace rotorquant;

constexpr int memories[] = {3, 5};

constexpr std::uint64_t training_seed = 1;
constexpr std::uint64_t measuring_seed = 2;
// Samples enough that a level is the mean of some hundreds (w = 8: 2^13 levels, 5 million samples).
constexpr std::int64_t training_vectors = 80000;
constexpr int training_rounds = 50;
// 13 million coordinates: the relative standard error of a distortion is about 5e-4.
constexpr std::int64_t measuring_vectors = 200000;

// Trials of starting permutations: many where they are cheap to tell apart, few where one trial takes
// seconds.
int starts(int width) {
  return width <= 4 ? 64 : 8;
}

void write_levels(std::ostream& out, const std::string& name, const std::vector<std::int16_t>& levels) {
  out << "constexpr std::int16_t " << name << "[] = {";
  std::size_t column = 0;
  for (std::size_t i = 0; i < levels.size(); ++i) {
    std::string number = std::to_string(levels[i]);
    if (i + 1 < levels.size()) number += ',';
    column += number.size();
    if (i == 0 || column > 108) {
      out << "\n  ";
      column = 2 + number.size();
    }
    out << number;
  }
  out << "};\n";
}

void train_all(const Context& context, const std::filesystem::path& path) {
  std::filesystem::path partial = path;
  partial += ".partial";
  std::ofstream out(partial);
  if (!out) throw Error("cannot write " + partial.string());
  out << "// Written by rotorquant-train-trellis; do not edit. level = round(32 * value), for width 8 "
         "round(1024 * value).\n"
         "// clang-format off\n";
  std::string rows;
  for (const int memory : memories) {
    for (int width = 1; width <= max_trellis_width; ++width) {
      const std::vector<std::int16_t> levels = train_trellis(context, {.memory = memory,
                                                                       .width = width,
                                                                       .vectors = training_vectors,
                                                                       .rounds = training_rounds,
                                                                       .starts = starts(width),
                                                                       .seed = training_seed});
      const double mse =
          measure_trellis_mse(context, memory, width, levels, measuring_vectors, measuring_seed);
      const std::string name = "levels_m" + std::to_string(memory) + "_w" + std::to_string(width);
      write_levels(out, name, levels);
      char row[128];
      std::snprintf(row, sizeof(row), "  {%d, %d, %d, %s, %.6g},\n", memory, width,
                    trellis_level_scale(width), name.c_str(), mse);
      rows += row;
      std::printf("memory %d width %d: mse %.6g\n", memory, width, mse);
      std::fflush(stdout);
    }
  }
  out << "constexpr TrellisTable tables[] = {\n" << rows << "};\n// clang-format on\n";
  out.close();
  if (!out) throw Error("cannot write " + partial.string());
  std::filesystem::rename(partial, path);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Trains the trellis codebooks and writes them as source data"};
  std::string path;
  Context context{.threads = available_threads()};
  app.add_option("output", path, "the file to write, lib/rotorquant/codebooks/trellis_tables.inc")
      ->required();
  app.add_option("--threads", context.threads, "threads; the result does not depend on it")
      ->check(CLI::Range(1, 1024));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  try {
    train_all(context, path);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rotorquant-train-trellis: %s\n", error.what());
    return 1;
  }
  return 0;
}
