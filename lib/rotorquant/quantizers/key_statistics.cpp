#include "rotorquant/quantizers/key_statistics.hpp"

#include <cmath>
#include <string>
#include <utility>

#include "rotorquant/core/error.hpp"

namespace rotorquant {

void KeyStatistics::validate() const {
  const std::size_t d = mean.size();
  const auto check = [](const char* name, const std::vector<float>& values, std::size_t expected,
                        bool energy) {
    if (values.size() != expected) {
      throw Error(std::string("key statistics: ") + name + " has " + std::to_string(values.size()) +
                  " values; valid: " + std::to_string(expected));
    }
    for (const float value : values) {
      if (!std::isfinite(value) || (energy && value < 0.0F)) {
        throw Error(std::string("key statistics: ") + name + " has " + std::to_string(value) +
                    "; valid: " + (energy ? "finite values, 0 or more" : "finite values"));
      }
    }
  };
  check("key_mean", mean, d, false);
  check("components", components, d * d, false);
  check("variances", variances, d, true);
  check("key_energy", key_energy, d, true);
  check("query_energy", query_energy, d, true);
}

}  // namespace rotorquant
