#pragma once
// Every quantizer by name. A new one is a file of its own and one entry here.
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "rotorquant/quantizers/quantizer.hpp"
#include "rotorquant/quantizers/spec.hpp"

namespace rotorquant {

// What a quantizer is built for.
struct BuildRequest {
  int bits = 0;  // within the quantizer's range; for two-stage quantizers the sketch's bit included
  std::uint64_t seed = 0;
  std::int64_t dim = 0;  // >= 1
};

struct QuantizerInfo {
  std::string name;
  std::string summary;  // one line
  std::string source;   // paper or format specification
  std::vector<ParameterInfo> parameters;
  // The name of the quantizer for values when this one is named for keys and values alike.
  std::string value_name;
  int min_bits = 1;  // fewest bits this quantizer can be built with
  std::function<std::shared_ptr<const Quantizer>(const ParameterReader&, const BuildRequest&)> build;
  int max_bits = 8;               // min_bits for formats of one width
  std::int64_t dim_multiple = 1;  // dim must be a multiple of this
  bool seeded = true;             // whether the seed changes its codes
};

const std::vector<QuantizerInfo>& quantizer_registry();

// The entry of this name; an unknown name is a UsageError that names the nearest known one.
const QuantizerInfo& find_quantizer(const std::string& name);

// Errors: UsageError for unknown names, parameters or values, and for bits outside the quantizer's range;
// Error for a dim that its format cannot have.
std::shared_ptr<const Quantizer> make_quantizer(const QuantizerSpec& spec, const BuildRequest& request);

// The specification for values that goes with `keys`: the same for plain quantizers; for a two-stage
// quantizer its plain form, with the parameters that form knows.
QuantizerSpec value_spec(const QuantizerSpec& keys);

}  // namespace rotorquant
