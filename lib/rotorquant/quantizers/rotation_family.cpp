#include "rotorquant/quantizers/rotation_family.hpp"

#include <utility>

#include "rotorquant/core/error.hpp"
#include "rotorquant/quantizers/prod_codec.hpp"
#include "rotorquant/quantizers/scalar_codec.hpp"
#include "rotorquant/quantizers/trellis_codec.hpp"
#include "rotorquant/rotations/registry.hpp"

namespace rotorquant {
namespace {

constexpr std::int64_t max_sketch_dim = 65536;
constexpr std::int64_t max_cascade_layers = 64;

bool offers(const std::string& rotations, const std::string& name) {
  for (const std::string& offered : split(rotations, '|')) {
    if (offered == name) return true;
  }
  return false;
}

std::vector<ParameterInfo> family_parameters(const std::string& rotations) {
  std::vector<ParameterInfo> parameters = {
      {"rotation", rotations, split(rotations, '|').front(), "rotation before the codebook"},
      {"codebook", "gaussian|sphere", "gaussian",
       "Lloyd-Max levels for N(0, 1/d) or for the exact law of a unit vector"},
      {"norm", "fp16|fp32|reference", "fp16", "stored type of the norm; reference: fp32 of max(norm, 1e-8)"},
      {"scale", "norm|mse|eden-biased|eden-unbiased|none", "norm",
       "stored scale: the norm, the MSE-optimal one (also called eden-biased), EDEN's unbiased one, or none"},
  };
  if (offers(rotations, "givens") || offers(rotations, "rotor") || offers(rotations, "quaternion")) {
    parameters.push_back(
        {"tail", "plane|pad", "plane",
         "coordinates left over by the groups: rotated among themselves, or padded with stored zeros"});
  }
  if (offers(rotations, "rotor")) {
    parameters.push_back({"rotor_sampling", "uniform-angle|haar", "uniform-angle",
                          "random bivector with a uniform angle, or the uniform law on rotations"});
    parameters.push_back({"grade_bits", "auto or S/V/B/T with widths 0..8, as 0/2/0/0", "auto",
                          "bits of each grade; only vectors are non-zero, so only V is stored"});
  }
  if (offers(rotations, "cascade")) {
    parameters.push_back(
        {"layers", "an integer from 1 to 64, or 0 for ceil(log3 d) + 1", "0", "layers of the cascade"});
    parameters.push_back({"cascade_rotors", "flat|haar", "flat",
                          "rotors of the cascade: the flattest ones, or uniform on the rotations"});
  }
  if (offers(rotations, "quaternion")) {
    parameters.push_back({"mode", "full|fast", "full", "q_L v conj(q_R), or q_L v"});
  }
  return parameters;
}

std::vector<ParameterInfo> plain_parameters(const std::string& rotations) {
  std::vector<ParameterInfo> parameters = family_parameters(rotations);
  parameters.push_back({"codec", "lloyd-max|trellis", "lloyd-max",
                        "each coordinate by itself, or a trellis path through all, at equal stored bits"});
  parameters.push_back(
      {"memory", "3|5", "5", "codec=trellis: log2 of the trellis' states; 5 is more accurate, 3 faster"});
  parameters.push_back({"scale_offset", "an integer from -100 to 100", "0",
                        "codec=trellis: octaves by which its scales, 2^-7.9 to 2^7.9, are moved"});
  return parameters;
}

std::vector<ParameterInfo> two_stage_parameters(const std::string& rotations) {
  std::vector<ParameterInfo> parameters = family_parameters(rotations);
  parameters.push_back({"qjl_dim", "an integer from 1 to 65536, or 0 for the head dimension", "0",
                        "sign bits of the residual sketch"});
  return parameters;
}

// A parameter of another rotation than the one in use would be ignored: a slip that must not become a row of
// a report.
void refuse_idle_parameters(const ParameterReader& parameters, const std::string& name,
                            const std::string& rotation) {
  const std::pair<const char*, const char*> owners[] = {{"rotor_sampling", "rotor"},
                                                        {"layers", "cascade"},
                                                        {"cascade_rotors", "cascade"},
                                                        {"mode", "quaternion"}};
  for (const auto& [key, owner] : owners) {
    if (parameters.given(key) && rotation != owner) {
      throw UsageError("quantizer '" + name + "': " + key + " has no meaning with rotation=" + rotation +
                       "; valid: with rotation=" + owner);
    }
  }
}

RotationSettings rotation_settings(const ParameterReader& parameters, const std::string& rotation) {
  RotationSettings settings;
  if (rotation == "givens" || rotation == "rotor" || rotation == "quaternion") {
    settings.tail = parameters.choice("tail") == "pad" ? Tail::pad : Tail::plane;
  }
  if (rotation == "rotor") {
    settings.rotor_sampling =
        parameters.choice("rotor_sampling") == "haar" ? RotorSampling::haar : RotorSampling::uniform_angle;
  }
  if (rotation == "cascade") {
    settings.layers = parameters.integer("layers", 0, max_cascade_layers);
    settings.cascade_rotors =
        parameters.choice("cascade_rotors") == "haar" ? CascadeRotors::haar : CascadeRotors::flat;
  }
  if (rotation == "quaternion") {
    settings.quaternion_mode =
        parameters.choice("mode") == "fast" ? QuaternionMode::fast : QuaternionMode::full;
  }
  return settings;
}

NormType norm_type(const ParameterReader& parameters) {
  const std::string type = parameters.choice("norm");
  if (type == "fp16") return NormType::fp16;
  return type == "fp32" ? NormType::fp32 : NormType::reference;
}

ScaleRule scale_rule(const ParameterReader& parameters) {
  const std::string rule = parameters.choice("scale");
  if (rule == "norm") return ScaleRule::norm;
  if (rule == "none") return ScaleRule::none;
  return rule == "eden-unbiased" ? ScaleRule::eden_unbiased : ScaleRule::mse;
}

// The width of grade 1, or `bits` under "auto".
int vector_bits(const ParameterReader& parameters, const std::string& name, int bits) {
  const std::string text = parameters.text("grade_bits");
  if (text == "auto") return bits;
  const std::vector<std::string> widths = split(text, '/');
  bool valid = widths.size() == 4;
  for (const std::string& width : widths)
    valid = valid && width.size() == 1 && width[0] >= '0' && width[0] <= '8';
  if (!valid || widths[1] == "0") {
    throw UsageError("quantizer '" + name + "': grade_bits = '" + text +
                     "'; valid: auto, or four widths 0..8 for scalar/vector/bivector/trivector with a vector "
                     "width of 1 or more");
  }
  return widths[1][0] - '0';
}

// A trellis code has its own levels and its own scale, and stores no padded coordinates.
void refuse_scalar_parameters(const std::string& name, const ParameterReader& parameters) {
  const auto refuse = [&](const std::string& key, const std::string& valid) {
    throw UsageError("quantizer '" + name + "': " + key + " = '" + parameters.text(key) +
                     "' does not go with codec=trellis; valid: " + valid);
  };
  for (const std::string key : {"codebook", "norm", "grade_bits"}) {
    if (parameters.given(key)) refuse(key, "codec=trellis without " + key);
  }
  if (parameters.given("scale") && scale_rule(parameters) != ScaleRule::mse) refuse("scale", "mse");
  if (parameters.given("tail") && parameters.choice("tail") == "pad") refuse("tail", "plane");
}

std::shared_ptr<const TrellisCodec> build_trellis_codec(const std::string& name,
                                                        const ParameterReader& parameters,
                                                        const BuildRequest& request) {
  refuse_scalar_parameters(name, parameters);
  const std::string rotation = parameters.choice("rotation");
  refuse_idle_parameters(parameters, name, rotation);
  TrellisValueOptions options;
  options.offset = static_cast<int>(parameters.integer("scale_offset", -max_scale_offset, max_scale_offset));
  return std::make_shared<TrellisCodec>(
      make_rotation(rotation, request.dim, request.seed, rotation_settings(parameters, rotation)),
      request.bits, parameters.choice("memory") == "3" ? 3 : 5, options);
}

std::shared_ptr<const ScalarCodec> build_codec(const std::string& name, const std::string& rotations,
                                               const ParameterReader& parameters, const BuildRequest& request,
                                               int stage1_bits) {
  const std::string rotation = parameters.choice("rotation");
  refuse_idle_parameters(parameters, name, rotation);
  const int bits = offers(rotations, "rotor") ? vector_bits(parameters, name, stage1_bits) : stage1_bits;
  const CodebookLaw law =
      parameters.choice("codebook") == "sphere" ? CodebookLaw::sphere : CodebookLaw::gaussian;
  return std::make_shared<ScalarCodec>(
      make_rotation(rotation, request.dim, request.seed, rotation_settings(parameters, rotation)),
      lloyd_max_codebook(law, bits, request.dim), norm_type(parameters), scale_rule(parameters));
}

}  // namespace

QuantizerInfo plain_quantizer(const std::string& name, const std::string& rotations,
                              const std::string& summary, const std::string& source) {
  QuantizerInfo info{name,
                     summary,
                     source,
                     plain_parameters(rotations),
                     name,
                     1,
                     [name, rotations](const ParameterReader& parameters,
                                       const BuildRequest& request) -> std::shared_ptr<const Quantizer> {
                       if (parameters.choice("codec") == "trellis")
                         return build_trellis_codec(name, parameters, request);
                       for (const std::string key : {"memory", "scale_offset"}) {
                         if (!parameters.given(key)) continue;
                         throw UsageError("quantizer '" + name + "': " + key + " = '" + parameters.text(key) +
                                          "' is for trellis codes; valid: " + key + " with codec=trellis");
                       }
                       return build_codec(name, rotations, parameters, request, request.bits);
                     }};
  info.seeded = rotations != "identity";
  return info;
}

QuantizerInfo two_stage_quantizer(const std::string& name, const std::string& plain_name,
                                  const std::string& rotations, const std::string& summary,
                                  const std::string& source) {
  return {name,
          summary,
          source,
          two_stage_parameters(rotations),
          plain_name,
          2,
          [name, rotations](const ParameterReader& parameters, const BuildRequest& request) {
            // One of the bits is the sketch's.
            const std::int64_t given = parameters.integer("qjl_dim", 0, max_sketch_dim);
            const std::int64_t sketch_dim = given == 0 ? request.dim : given;
            return std::make_shared<ProdCodec>(
                build_codec(name, rotations, parameters, request, request.bits - 1),
                QjlSketch::random(request.dim, sketch_dim, request.seed));
          }};
}

}  // namespace rotorquant
