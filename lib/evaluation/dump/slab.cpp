// Reading one head of a tensor, whatever the order of its axes, and finding values that no quantizer can
// take.
#include <fmt/format.h>

#include <cmath>

#include "evaluation/dump/catalogue.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {

std::vector<float> read_slab(const hdf5::Dataset& dataset, const TensorSource& source, std::int64_t head,
                             std::int64_t row_count) {
  const hdf5::Session session;
  const std::size_t rank = source.axes.size();
  std::vector<hsize_t> start(rank, 0);
  std::vector<hsize_t> count(rank, 1);
  for (std::size_t i = 0; i < rank; ++i) {
    switch (source.axes[i]) {
      case 'L':
        start[i] = static_cast<hsize_t>(source.layer_index);
        break;
      case 'B':
        start[i] = static_cast<hsize_t>(source.batch_index);
        break;
      case 'H':
        start[i] = static_cast<hsize_t>(head);
        break;
      case 'T':
        count[i] = static_cast<hsize_t>(row_count);
        break;
      default:
        count[i] = static_cast<hsize_t>(source.channels);
    }
  }
  const hdf5::Dataspace selection(H5Dget_space(dataset.get()));
  if (H5Sselect_hyperslab(selection.get(), H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr) <
      0) {
    throw Error("cannot be read" + hdf5::last_error());
  }
  const auto rows = static_cast<std::size_t>(row_count);
  const auto channels = static_cast<std::size_t>(source.channels);
  std::vector<float> stored(rows * channels);
  read_elements(dataset, source.type, selection, stored);
  if (source.axes.find('T') < source.axes.find('D')) return stored;
  std::vector<float> slab(rows * channels);
  for (std::size_t c = 0; c < channels; ++c) {
    for (std::size_t r = 0; r < rows; ++r) slab[r * channels + c] = stored[c * rows + r];
  }
  return slab;
}

std::optional<std::int64_t> first_non_finite(const std::vector<float>& values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) return static_cast<std::int64_t>(i);
  }
  return std::nullopt;
}

std::string non_finite_message(const std::vector<float>& values, std::int64_t at, const TensorSource& source,
                               std::int64_t layer, std::int64_t head) {
  const float value = values[static_cast<std::size_t>(at)];
  const char* name = std::isnan(value) ? "NaN" : value > 0 ? "Inf" : "-Inf";
  const bool may_overflow = source.type == ElementType::float64 && !std::isnan(value);
  return fmt::format("{}{} at layer {}, head {}, token {}, channel {}; every value must be finite in float32",
                     name, may_overflow ? " (or beyond the range of float32)" : "", layer, head,
                     at / source.channels, at % source.channels);
}

}  // namespace rotorquant::evaluation
