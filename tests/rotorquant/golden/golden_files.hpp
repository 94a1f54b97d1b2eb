#pragma once
// Finds the fixtures: every *.h5 of the folder ROTORQUANT_GOLDEN_DIR, by default tests/golden. A file is
// known by its groups, whatever its name.
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace rotorquant::test {

class Hdf5File;

enum class Layout {
  clifford,   // products of Cl(3,0): basis_product, product, reverse, norm_sq, sandwich
  reference,  // runs of the Python reference: dN/FAMILY/bB/sSEED
  other,      // belongs to another test
};

Layout layout_of(const Hdf5File& file);

// Calls check(file) for every fixture of that layout, with the file's path in the trace of failures. Fails
// when the folder has none at all of any known layout.
void for_each_golden_file(Layout layout, const std::function<void(const Hdf5File&)>& check);

// The number after `prefix` when `name` is the prefix and a number ("b3"), else -1.
long numbered(const std::string& name, char prefix);

}  // namespace rotorquant::test
