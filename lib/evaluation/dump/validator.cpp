#include "evaluation/dump/validator.hpp"

#include <fmt/format.h>

#include <cmath>

#include "evaluation/dump/catalogue.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

void scan(const hdf5::File& file, const TensorSource& source, std::int64_t layer,
          std::vector<Problem>& problems) {
  try {
    const hdf5::Dataset dataset = hdf5::open_dataset(file, source.path);
    for (std::int64_t head = 0; head < source.heads; ++head) {
      const std::vector<float> slab = read_slab(dataset, source, head, source.tokens);
      const auto bad = first_non_finite(slab);
      if (!bad) continue;
      std::int64_t others = -1;
      for (const float value : slab) others += std::isfinite(value) ? 0 : 1;
      problems.push_back(
          {source.path, non_finite_message(slab, *bad, source, layer, head) +
                            (others > 0 ? fmt::format(" ({} more in this head)", others) : "")});
    }
  } catch (const Error& error) {
    problems.push_back({source.path, error.what()});
  }
}

}  // namespace

std::vector<Problem> validate_dump(const std::string& path, const DumpOptions& options) {
  const hdf5::File file = hdf5::open_file(path);
  const hdf5::Session session;
  Catalogue catalogue = examine(file, options);
  for (const auto& [layer, sources] : catalogue.layers) {
    for (const auto* source : {&sources.key, &sources.value, &sources.query}) {
      if (*source && (*source)->tokens > 0 && (*source)->channels > 0) {
        scan(file, **source, layer, catalogue.problems);
      }
    }
  }
  return std::move(catalogue.problems);
}

}  // namespace rotorquant::evaluation
