#pragma once
// Every rotation by name, built from a seed.
#include <memory>
#include <string>
#include <vector>

#include "rotorquant/clifford/rotor.hpp"
#include "rotorquant/core/isa.hpp"
#include "rotorquant/rotations/block_rotation.hpp"
#include "rotorquant/rotations/cascade.hpp"
#include "rotorquant/rotations/quaternion.hpp"

namespace rotorquant {

// Parameters that some rotations read and the others ignore.
struct RotationSettings {
  Tail tail = Tail::plane;                                      // givens, rotor, quaternion
  RotorSampling rotor_sampling = RotorSampling::uniform_angle;  // rotor
  QuaternionMode quaternion_mode = QuaternionMode::full;        // quaternion
  CascadeRotors cascade_rotors = CascadeRotors::flat;           // cascade
  std::int64_t layers = 0;                                      // cascade; 0 = default_cascade_layers
  Isa isa = active_isa();                                       // of the kernels; results do not depend on it
};

struct RotationInfo {
  std::string name;
  std::string block;              // coordinates mixed with one another
  std::string cost;               // per coordinate
  std::string stored_parameters;  // numbers kept once per model
  std::string known_as;
};

const std::vector<RotationInfo>& rotation_registry();

// Errors: UsageError for an unknown name.
std::shared_ptr<const Rotation> make_rotation(const std::string& name, std::int64_t dim, std::uint64_t seed,
                                              const RotationSettings& settings = {});

}  // namespace rotorquant
