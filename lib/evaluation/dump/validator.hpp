#pragma once
// Everything that is wrong with a dump, at once.
#include <string>
#include <vector>

#include "evaluation/dump/dump.hpp"

namespace rotorquant::evaluation {

struct Problem {
  std::string path;     // of the HDF5 object: "/layers/005/key"
  std::string message;  // what is wrong with it and what would be valid
};

// Checks every shape, rank, type and head-count relation and reads every tensor for values that are not
// finite in float32: per (layer, head) slab the first such value and how many more there are. Empty when the
// dump is valid. A file that cannot be opened at all is an Error.
std::vector<Problem> validate_dump(const std::string& path, const DumpOptions& options = {});

}  // namespace rotorquant::evaluation
