#include "evaluation/sweep/schemes.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "evaluation/sweep/tensor_method.hpp"

namespace rotorquant::evaluation {
namespace {

constexpr char sinks_key[] = "sinks";

}  // namespace

const std::vector<Scheme>& scheme_registry() {
  static const std::vector<Scheme> registry = {
      {"rotorquant-max",
       "calibrated keys and cascade values, both with trellis codes, at b*d + 16 bits a vector: the least "
       "error "
       "we know of at these bits",
       fmt::format("{}:codec=trellis", calibrated_name),
       "rotorquant:codec=trellis:rotation=cascade:scale=mse",
       {{"memory", "an integer, 3 or 5", "5", "of both trellises"},
        {sinks_key, "a whole number", "4, or --sinks",
         "first tokens of the sequence kept in 16 bits, charged"},
        {"bits", "an integer from 1 to 8", "the sweep's", "width of this quantizer alone"}}},
  };
  return registry;
}

std::optional<SchemeTensors> find_scheme(const QuantizerSpec& spec, std::int64_t sinks) {
  const std::vector<Scheme>& registry = scheme_registry();
  const auto found = std::ranges::find(registry, spec.name, &Scheme::name);
  if (found == registry.end()) return std::nullopt;
  const ParameterReader reader(spec, found->parameters);  // refuses what the scheme does not have
  SchemeTensors tensors{QuantizerSpec::parse(found->keys), QuantizerSpec::parse(found->values)};
  for (QuantizerSpec* tensor : {&tensors.keys, &tensors.values}) {
    if (sinks == 0) tensor->parameters.insert_or_assign(sinks_key, std::string("4"));
    for (const auto& [key, value] : spec.parameters) tensor->parameters[key] = value;
  }
  return tensors;
}

}  // namespace rotorquant::evaluation
