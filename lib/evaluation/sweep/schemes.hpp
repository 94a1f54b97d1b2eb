#pragma once
// Schemes: one name for a quantizer of keys together with one of values. In a list of quantizers a scheme
// stands for both; where keys and values are named apart it does not apply.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rotorquant/quantizers/spec.hpp"

namespace rotorquant::evaluation {

struct Scheme {
  std::string name;
  std::string summary;
  std::string keys;  // specifications, without what `parameters` say
  std::string values;
  std::vector<ParameterInfo> parameters;  // each given to keys and values alike
};

struct SchemeTensors {
  QuantizerSpec keys;
  QuantizerSpec values;
};

const std::vector<Scheme>& scheme_registry();

// The two specifications that `spec` stands for, or nothing when its name is no scheme's. `sinks`: the
// request's own, which replaces the scheme's default when it is not 0. Errors: UsageError for a parameter the
// scheme does not have.
std::optional<SchemeTensors> find_scheme(const QuantizerSpec& spec, std::int64_t sinks);

}  // namespace rotorquant::evaluation
