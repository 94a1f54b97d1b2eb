#pragma once
// Lists of whole numbers as people write them: "2,3,4", "0-9", "0,5-9".
#include <cstdint>
#include <string>
#include <vector>

namespace rotorquant::evaluation {

// In the order written, without repeats. `what` names the list in errors ("seeds"). Errors (UsageError): an
// empty list, a part that is not a number or a rising range, a number outside [low, high].
std::vector<std::int64_t> parse_ranges(const std::string& text, const std::string& what, std::int64_t low,
                                       std::int64_t high);

}  // namespace rotorquant::evaluation
