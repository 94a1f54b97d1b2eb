#include "rotorquant/rotations/registry.hpp"

#include <map>
#include <mutex>
#include <utility>

#include "rotorquant/core/error.hpp"
#include "rotorquant/rotations/dense.hpp"
#include "rotorquant/rotations/givens.hpp"
#include "rotorquant/rotations/hadamard.hpp"
#include "rotorquant/rotations/identity.hpp"
#include "rotorquant/rotations/rotor.hpp"

namespace rotorquant {
namespace {

// A Haar matrix takes long to draw: quantizers of one dimension and seed that exist at the same time, of
// several widths, share theirs.
std::shared_ptr<const Rotation> shared_haar(std::int64_t dim, std::uint64_t seed) {
  static std::mutex mutex;
  static std::map<std::pair<std::int64_t, std::uint64_t>, std::weak_ptr<const Rotation>> in_use;
  const auto key = std::make_pair(dim, seed);
  {
    const std::scoped_lock lock(mutex);
    const auto found = in_use.find(key);
    if (found != in_use.end()) {
      if (std::shared_ptr<const Rotation> rotation = found->second.lock()) return rotation;
    }
  }
  auto drawn = std::make_shared<const DenseRotation>(DenseRotation::haar(dim, seed));
  const std::scoped_lock lock(mutex);
  std::erase_if(in_use, [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<const Rotation>& place = in_use[key];
  if (std::shared_ptr<const Rotation> rotation = place.lock()) return rotation;
  place = drawn;
  return drawn;
}

}  // namespace

const std::vector<RotationInfo>& rotation_registry() {
  static const std::vector<RotationInfo> registry = {
      {"identity", "1", "0", "0", "RTN after normalisation"},
      {"givens", "2", "2 FMA", "d/2", "PlanarQuant"},
      {"rotor", "3", "3 FMA", "d", "RotorQuant"},
      {"quaternion", "4", "4 FMA", "3d/4 (fast), 3d/2 (full)", "IsoQuant"},
      {"hadamard", "d", "log2 d adds", "d signs", "RHT, QuaRot"},
      {"cascade", "d", "3 FMA a layer", "2 bits a rotor (flat)", "ours"},
      {"haar", "d", "d FMA", "d^2", "TurboQuant"},
  };
  return registry;
}

std::shared_ptr<const Rotation> make_rotation(const std::string& name, std::int64_t dim, std::uint64_t seed,
                                              const RotationSettings& settings) {
  if (dim < 1) throw Error("rotation '" + name + "': dim = " + std::to_string(dim) + "; valid: 1 or more");
  if (name == "identity") return std::make_shared<IdentityRotation>(dim);
  if (name == "givens") {
    return std::make_shared<BlockRotation<2>>(random_givens_rotation(dim, settings.tail, seed, settings.isa));
  }
  if (name == "rotor") {
    return std::make_shared<BlockRotation<3>>(
        random_rotor_rotation(dim, settings.tail, settings.rotor_sampling, seed, settings.isa));
  }
  if (name == "quaternion") {
    return std::make_shared<BlockRotation<4>>(
        random_quaternion_rotation(dim, settings.tail, settings.quaternion_mode, seed, settings.isa));
  }
  if (name == "hadamard")
    return std::make_shared<HadamardRotation>(HadamardRotation::random(dim, seed, settings.isa));
  if (name == "cascade") {
    const std::int64_t layers = settings.layers == 0 ? default_cascade_layers(dim) : settings.layers;
    return std::make_shared<CascadeRotation>(dim, layers, settings.cascade_rotors, seed, settings.isa);
  }
  if (name == "haar") return shared_haar(dim, seed);
  std::vector<std::string> known;
  for (const RotationInfo& info : rotation_registry()) known.push_back(info.name);
  throw UsageError("unknown rotation '" + name + "'" + nearest_hint(name, known));
}

}  // namespace rotorquant
