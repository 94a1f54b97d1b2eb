// Compatibility with the Python reference: see reference_checks.hpp.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <exception>

#include "rotorquant/golden/golden_files.hpp"
#include "rotorquant/golden/reference_checks.hpp"

namespace rotorquant::test {
namespace {

struct Family {
  std::string prefix;  // of the group's name: "rotorquant_prod" is also "rotorquant_prod_half_sketch"
  void (*check)(const Run&);
};

const std::vector<Family>& families() {
  static const std::vector<Family> list = {
      {"rotorquant_mse", check_rotor_plain},
      {"rotorquant_prod", check_rotor_prod},
      {"rotorquant_head_trivector", check_trivector},
      {"turboquant_mse", check_turbo_plain},
      {"turboquant_prod", check_turbo_prod},
      {"isoquant_", check_quaternion},
      {"planarquant", check_planar},
      {"kv_cache", check_kv_cache},
      {"grade_bits_vector", check_rotor_plain},
  };
  return list;
}

// A group holds a run when it holds datasets; else it holds groups of widths, and these of seeds.
void check_runs(const Hdf5File& file, const std::string& path, const std::string& seed, const Family& family,
                Run run) {
  bool has_datasets = false;
  for (const std::string& child : file.children(path)) {
    const std::string below = path + "/" + child;
    if (!file.is_group(below)) {
      has_datasets = true;
    } else if (numbered(child, 'b') >= 0 || numbered(child, 's') >= 0) {
      check_runs(file, below, numbered(child, 's') >= 0 ? child : seed, family, run);
    } else {
      fmt::print("note: {}: group '{}' has no check\n", file.path(), below);
    }
  }
  if (!has_datasets) return;
  SCOPED_TRACE(path);
  run.path = path;
  run.parameters = run.dim_path + "/parameters/" + seed;
  ++run.tally.runs;
  try {
    family.check(run);
  } catch (const std::exception& error) {
    ADD_FAILURE() << error.what();
  }
}

void check_dim(const Hdf5File& file, const std::string& dim_group, std::map<std::string, Tally>& tallies) {
  const std::string dim_path = "/" + dim_group;
  for (const std::string& name : file.children(dim_path)) {
    const std::string path = dim_path + "/" + name;
    if (name == "parameters" || !file.is_group(path)) continue;  // read by the families that need them
    const auto family = std::find_if(families().begin(), families().end(),
                                     [&](const Family& f) { return name.starts_with(f.prefix); });
    if (family == families().end()) {
      fmt::print("note: {}: group '{}' has no check\n", file.path(), path);
      continue;
    }
    check_runs(file, path, "", *family, {file, numbered(dim_group, 'd'), dim_path, "", "", tallies[name]});
  }
}

double percent(std::int64_t part, std::int64_t whole) {
  return whole == 0 ? 0.0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

void print_row(const std::string& name, const Tally& t) {
  fmt::print("{:<30} {:>5} {:>9} {:>6} {:>7.4f}% {:>7} {:>6}/{:<6} {:>6}/{:<8} {:>5}\n", name, t.runs,
             t.coordinates, t.near_boundary, percent(t.near_boundary, t.coordinates), t.zeros,
             t.undecided_vectors, t.vectors, t.undecided_signs, t.signs, t.undecided_estimates);
}

TEST(Golden, QuantizersEqualTheReference) {
  std::map<std::string, Tally> tallies;
  for_each_golden_file(Layout::reference, [&](const Hdf5File& file) {
    for (const std::string& name : file.children("/")) {
      if (numbered(name, 'd') > 0) {
        check_dim(file, name, tallies);
      } else {
        fmt::print("note: {}: group '{}' has no check\n", file.path(), name);
      }
    }
  });
  Tally total;
  fmt::print("{:<30} {:>5} {:>9} {:>6} {:>8} {:>7} {:>13} {:>15} {:>5}\n", "family", "runs", "coords",
             "excpt", "share", "zeros", "vectors excpt", "signs excpt", "sums");
  for (const auto& [name, tally] : tallies) {
    print_row(name, tally);
    total.runs += tally.runs;
    total.coordinates += tally.coordinates;
    total.near_boundary += tally.near_boundary;
    total.zeros += tally.zeros;
    total.vectors += tally.vectors;
    total.undecided_vectors += tally.undecided_vectors;
    total.signs += tally.signs;
    total.undecided_signs += tally.undecided_signs;
    total.undecided_estimates += tally.undecided_estimates;
  }
  print_row("all", total);
  EXPECT_LT(static_cast<double>(total.near_boundary),
            largest_excepted_share * static_cast<double>(std::max<std::int64_t>(total.coordinates, 1)));
}

}  // namespace
}  // namespace rotorquant::test
