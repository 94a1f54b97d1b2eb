#include "rotorquant/quantizers/registry.hpp"

#include <algorithm>

#include "rotorquant/core/dispatch.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/quantizers/rotation_family.hpp"
#include "rotorquant/quantizers/trivector_codec.hpp"

namespace rotorquant {

const std::vector<QuantizerInfo>& quantizer_registry() {
  static const std::vector<QuantizerInfo> registry = [] {
    const std::string rotorquant_source =
        "RotorQuant: groups of three coordinates turned by rotors of Cl(3,0)";
    const std::string turboquant_source = "Zandieh et al., TurboQuant, arXiv 2504.19874";
    const std::string qjl_source = "; residual sketch: Zandieh et al., QJL, arXiv 2406.03482";
    return std::vector<QuantizerInfo>{
        plain_quantizer("identity", "identity", "no rotation: round to nearest after normalisation", "RTN"),
        plain_quantizer("planarquant", "givens", "plane rotations of coordinate pairs", "PlanarQuant"),
        plain_quantizer("rotorquant", "rotor|cascade", "rotors on groups of three coordinates", rotorquant_source),
        two_stage_quantizer("rotorquant-prod", "rotorquant", "rotor|cascade",
                            "rotorquant at b-1 bits and a 1-bit residual sketch",
                            rotorquant_source + qjl_source),
        trivector_quantizer(),
        plain_quantizer("isoquant", "quaternion", "unit quaternions on groups of four coordinates",
                        "IsoQuant"),
        plain_quantizer("turboquant", "haar|hadamard", "one dense random rotation", turboquant_source),
        two_stage_quantizer("turboquant-prod", "turboquant", "haar|hadamard",
                            "turboquant at b-1 bits and a 1-bit residual sketch",
                            turboquant_source + qjl_source),
    };
  }();
  return registry;
}

const QuantizerInfo& find_quantizer(const std::string& name) {
  const std::vector<QuantizerInfo>& registry = quantizer_registry();
  const auto found =
      std::find_if(registry.begin(), registry.end(), [&](const QuantizerInfo& i) { return i.name == name; });
  if (found != registry.end()) return *found;
  std::vector<std::string> known;
  for (const QuantizerInfo& info : registry) known.push_back(info.name);
  throw UsageError("unknown quantizer '" + name + "'" + nearest_hint(name, known) +
                   "; valid: see 'rotorquant list quantizers'");
}

std::shared_ptr<const Quantizer> make_quantizer(const QuantizerSpec& spec, const BuildRequest& request) {
  const QuantizerInfo& info = find_quantizer(spec.name);
  const ParameterReader parameters(spec, info.parameters);
  dispatch_bits(request.bits, [](auto) {});
  if (request.bits < info.min_bits) {
    throw UsageError("quantizer '" + spec.name + "': bits = " + std::to_string(request.bits) +
                     "; valid: " + std::to_string(info.min_bits) + " to 8");
  }
  if (request.dim < 1) {
    throw Error("quantizer '" + spec.name + "': dim = " + std::to_string(request.dim) + "; valid: 1 or more");
  }
  return info.build(parameters, request);
}

QuantizerSpec value_spec(const QuantizerSpec& keys) {
  const std::string& value_name = find_quantizer(keys.name).value_name;
  if (value_name == keys.name) return keys;
  QuantizerSpec values{value_name, {}};
  for (const ParameterInfo& parameter : find_quantizer(value_name).parameters) {
    const auto given = keys.parameters.find(parameter.key);
    if (given != keys.parameters.end()) values.parameters.insert(*given);
  }
  return values;
}

}  // namespace rotorquant
