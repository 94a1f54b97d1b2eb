#pragma once
// The root attributes of a dump, checked one by one.
#include <vector>

#include "evaluation/dump/dump.hpp"
#include "evaluation/dump/hdf5.hpp"
#include "evaluation/dump/validator.hpp"

namespace rotorquant::evaluation {

// True when the file says that it is of our format and version; adds a problem otherwise.
bool check_format(const hdf5::File& file, std::vector<Problem>& problems);

// Reads the attributes into `info`. In a native file (`required`) an absent one is a problem unless it has a
// default; in a mapped file the attributes that are there count, and the array shapes give the rest. Whether
// the numbers agree with each other and with the arrays is checked by `check_relations`.
void read_attributes(const hdf5::File& file, bool required, DumpInfo& info, std::vector<Problem>& problems);

// Ranges and relations between the numbers of a complete `info`.
void check_relations(const DumpInfo& info, std::vector<Problem>& problems);

}  // namespace rotorquant::evaluation
