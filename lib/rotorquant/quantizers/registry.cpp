#include "rotorquant/quantizers/registry.hpp"

#include <algorithm>

#include "rotorquant/core/error.hpp"
#include "rotorquant/quantizers/float_formats.hpp"
#include "rotorquant/quantizers/ggml_blocks.hpp"
#include "rotorquant/quantizers/kivi_codec.hpp"
#include "rotorquant/quantizers/rabitq.hpp"
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
        plain_quantizer("rotorquant", "rotor|cascade", "rotors on groups of three coordinates",
                        rotorquant_source),
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
        rabitq_quantizer(),
        kivi_quantizer(),
        ggml_quantizer(GgmlFormat::q4_0),
        ggml_quantizer(GgmlFormat::q8_0),
        e4m3_quantizer(),
        identity16_quantizer(),
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
  if (request.bits < info.min_bits || request.bits > info.max_bits) {
    const std::string range =
        std::to_string(info.min_bits) +
        (info.max_bits > info.min_bits ? " to " + std::to_string(info.max_bits) : std::string());
    throw UsageError("quantizer '" + spec.name + "': bits = " + std::to_string(request.bits) +
                     "; valid: " + range);
  }
  if (request.dim < 1 || request.dim % info.dim_multiple != 0) {
    const std::string valid = info.dim_multiple == 1 ? std::string("1 or more")
                                                     : "multiples of " + std::to_string(info.dim_multiple);
    throw Error("quantizer '" + spec.name + "': dim = " + std::to_string(request.dim) + "; valid: " + valid);
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
