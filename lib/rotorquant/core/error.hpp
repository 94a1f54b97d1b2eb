#pragma once
// Errors that reach a person: one line that says what is wrong, where, and what would be valid.
#include <stdexcept>
#include <string>
#include <vector>

namespace rotorquant {

// The work could not be done (exit code 1): a file, a value in the data, a device.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The request itself is malformed (exit code 2): an unknown name, an option out of range.
class UsageError : public Error {
 public:
  using Error::Error;
};

// "; did you mean 'rotorquant'?" for the candidate nearest to `name` in edit distance, or "" when none is
// near.
std::string nearest_hint(const std::string& name, const std::vector<std::string>& candidates);

}  // namespace rotorquant
