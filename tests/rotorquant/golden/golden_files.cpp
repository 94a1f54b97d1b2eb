#include "rotorquant/golden/golden_files.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "support/hdf5_file.hpp"

namespace rotorquant::test {
namespace {

std::vector<std::string> golden_paths() {
  const char* given = std::getenv("ROTORQUANT_GOLDEN_DIR");
  const std::filesystem::path folder = given != nullptr ? given : ROTORQUANT_GOLDEN_DIR_DEFAULT;
  std::vector<std::string> paths;
  if (!std::filesystem::is_directory(folder)) {
    ADD_FAILURE() << "no folder of fixtures at " << folder;
    return paths;
  }
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".h5") paths.push_back(entry.path().string());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace

long numbered(const std::string& name, char prefix) {
  if (name.size() < 2 || name[0] != prefix || name.find_first_not_of("0123456789", 1) != std::string::npos) {
    return -1;
  }
  return std::stol(name.substr(1));
}

Layout layout_of(const Hdf5File& file) {
  static const std::vector<std::string> clifford_groups = {"basis_product", "norm_sq", "product", "reverse",
                                                           "sandwich"};
  for (const std::string& name : file.children("/")) {
    if (std::find(clifford_groups.begin(), clifford_groups.end(), name) != clifford_groups.end()) {
      return Layout::clifford;
    }
    if (numbered(name, 'd') > 0 && file.is_group("/" + name)) return Layout::reference;
  }
  return Layout::other;
}

void for_each_golden_file(Layout layout, const std::function<void(const Hdf5File&)>& check) {
  int known = 0;
  for (const std::string& path : golden_paths()) {
    SCOPED_TRACE(path);
    const Hdf5File file(path);
    const Layout found = layout_of(file);
    if (found != Layout::other) ++known;
    if (found == layout) check(file);
  }
  EXPECT_GT(known, 0) << "no fixture in the layout of clifford.h5 or reference.h5";
}

}  // namespace rotorquant::test
