#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <vector>

#include "evaluation/calibration/transforms_file.hpp"
#include "evaluation/calibration/transforms_format.hpp"
#include "evaluation/dump/hdf5.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {

using namespace transforms_format;

namespace {

// Reads with messages that name the file and the object.
class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path), file_(hdf5::open_file(path)) {}

  [[noreturn]] void refuse(const std::string& place, const std::string& reason) const {
    throw Error(fmt::format("{}: {}: {}", path_, place, reason));
  }
  std::int64_t integer(const std::string& object, const std::string& name) const {
    const auto number = hdf5::number_attribute(file_, object, name);
    if (!number || !number->integral)
      refuse(object, fmt::format("attribute '{}' is missing or no integer", name));
    return number->integer;
  }
  double real(const std::string& object, const std::string& name) const {
    const auto number = hdf5::number_attribute(file_, object, name);
    if (!number) refuse(object, fmt::format("attribute '{}' is missing", name));
    return number->value;
  }
  std::string text(const std::string& object, const std::string& name) const {
    const auto found = hdf5::string_attribute(file_, object, name);
    if (!found) refuse(object, fmt::format("attribute '{}' is missing", name));
    return *found;
  }
  std::vector<std::string> children(const std::string& group) const {
    if (hdf5::object_kind(file_, group) != hdf5::ObjectKind::group)
      refuse(group, "is missing; valid: a group");
    return hdf5::children(file_, group);
  }
  bool has(const std::string& dataset) const {
    return hdf5::object_kind(file_, dataset) == hdf5::ObjectKind::dataset;
  }
  // The dataset's elements; -1 in `shape` accepts any extent and is replaced by it.
  std::vector<double> numbers(const std::string& name, std::vector<std::int64_t>& shape) const {
    if (!has(name)) refuse(name, "is missing; valid: a dataset");
    const hdf5::Dataset dataset = hdf5::open_dataset(file_, name);
    const std::vector<std::int64_t> actual = hdf5::extents(dataset);
    bool agree = actual.size() == shape.size();
    for (std::size_t i = 0; agree && i < shape.size(); ++i) agree = shape[i] == -1 || shape[i] == actual[i];
    if (!agree) {
      refuse(name,
             fmt::format("has shape [{}]; valid: [{}]{}", fmt::join(actual, ", "), fmt::join(shape, ", "),
                         std::find(shape.begin(), shape.end(), -1) == shape.end() ? "" : " (-1: any)"));
    }
    shape = actual;
    std::vector<double> values(element_count(shape));
    if (!values.empty() &&
        H5Dread(dataset.get(), H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) < 0) {
      refuse(name, "cannot be read" + hdf5::last_error());
    }
    return values;
  }
  std::vector<double> numbers(const std::string& name, std::vector<std::int64_t>&& shape) const {
    return numbers(name, shape);
  }

 private:
  std::string path_;
  hdf5::File file_;
};

std::vector<float> float_row(const std::vector<double>& values, std::size_t row, std::size_t length) {
  std::vector<float> result(length);
  for (std::size_t i = 0; i < length; ++i) result[i] = static_cast<float>(values[row * length + i]);
  return result;
}

BlockCascade read_cascade(const std::vector<double>& delta, const std::vector<double>& triples,
                          const std::vector<double>& blocks, std::size_t head, std::size_t dim,
                          std::size_t layers, BlockKind kind) {
  BlockCascade cascade;
  cascade.kind = kind;
  cascade.delta = float_row(delta, head, dim);
  const std::size_t most = dim / 3;
  for (std::size_t l = 0; l < layers; ++l) {
    TripleLayer layer;
    for (std::size_t g = 0; g < most; ++g) {
      const std::size_t at = (head * layers + l) * most + g;
      if (triples[3 * at] < 0.0) break;
      std::array<std::int32_t, 3> triple;
      for (std::size_t i = 0; i < 3; ++i) triple[i] = static_cast<std::int32_t>(triples[3 * at + i]);
      std::array<float, 9> block;
      for (std::size_t i = 0; i < 9; ++i) block[i] = static_cast<float>(blocks[9 * at + i]);
      layer.triples.push_back(triple);
      layer.blocks.push_back(block);
    }
    if (!layer.triples.empty()) cascade.layers.push_back(std::move(layer));
  }
  return cascade;
}

void read_layer(const Reader& reader, std::int64_t layer, TransformSet& set) {
  const auto dim = static_cast<std::size_t>(set.head_dim);
  const auto heads = static_cast<std::size_t>(set.num_kv_heads);
  const std::int64_t d = set.head_dim;
  const std::int64_t h = set.num_kv_heads;
  const std::string group = layer_path(layer);
  std::vector<std::int64_t> centroid_shape = {h, -1, d};
  const std::vector<double> centroids = reader.numbers(group + "/centroids", centroid_shape);
  const std::vector<double> metric = reader.numbers(group + "/query_metric", {h, d, d});
  const std::vector<double> zeros = reader.numbers(group + "/scale_zero", {h});
  const std::size_t first = set.heads.size();
  for (std::size_t head = 0; head < heads; ++head) {
    KeyStatistics statistics;
    visit_statistics(statistics, [&](const char* name, bool square, std::vector<float>& values) {
      std::vector<std::int64_t> shape = {h, d};
      if (square) shape.push_back(d);
      values = float_row(reader.numbers(group + "/" + name, shape), head, square ? dim * dim : dim);
    });
    try {
      statistics.validate();
    } catch (const Error& error) {
      reader.refuse(fmt::format("{}, KV head {}", group, head), error.what());
    }
    set.heads.push_back({layer,
                         static_cast<std::int64_t>(head),
                         {},
                         std::make_shared<const KeyStatistics>(std::move(statistics))});
  }
  for (const int bits : set.settings.bits) {
    const std::string place = bits_path(layer, bits);
    const std::int64_t num_layers = set.settings.layers;
    const std::vector<double> delta = reader.numbers(place + "/delta", {h, d});
    const std::vector<double> deviations = reader.numbers(place + "/deviations", {h, d});
    const std::vector<double> weights = reader.numbers(place + "/weights", {h, d});
    const std::vector<double> widths = reader.numbers(place + "/widths", {h, d});
    const std::vector<double> triples = reader.numbers(place + "/triples", {h, num_layers, d / 3, 3});
    const std::vector<double> blocks = reader.numbers(place + "/blocks", {h, num_layers, d / 3, 3, 3});
    const std::vector<double> objective = reader.numbers(place + "/objective", {h, 4});
    for (std::size_t head = 0; head < heads; ++head) {
      const std::string where = fmt::format("{}, KV head {}", place, head);
      CalibratedParameters parameters;
      parameters.dim = d;
      parameters.bits = bits;
      parameters.centroid_bits = set.settings.centroid_bits;
      parameters.scale = set.settings.scale;
      parameters.scale.zero = static_cast<int>(zeros[head]);
      parameters.centroids = float_row(centroids, head, static_cast<std::size_t>(centroid_shape[1]) * dim);
      parameters.query_metric = float_row(metric, head, dim * dim);
      parameters.deviations = float_row(deviations, head, dim);
      parameters.weights = float_row(weights, head, dim);
      parameters.transform = read_cascade(delta, triples, blocks, head, dim,
                                          static_cast<std::size_t>(num_layers), set.settings.blocks);
      try {
        parameters.validate();
      } catch (const Error& error) {
        reader.refuse(where, error.what());
      }
      const std::vector<std::uint8_t> derived = sequence_widths(parameters, {});
      for (std::size_t i = 0; i < dim; ++i) {
        if (widths[head * dim + i] != static_cast<double>(derived[i])) {
          reader.refuse(
              where, fmt::format("width of coordinate {} is {}; valid: {}, as deviations and weights give", i,
                                 widths[head * dim + i], derived[i]));
        }
      }
      const FitObjective recorded = {objective[4 * head], objective[4 * head + 1], objective[4 * head + 2],
                                     objective[4 * head + 3]};
      set.heads[first + head].bits.push_back(
          {bits, std::make_shared<const CalibratedParameters>(std::move(parameters)), recorded});
    }
  }
}

}  // namespace

TransformSet read_transforms(const std::string& path) {
  const hdf5::Session session;
  const Reader reader(path);
  if (const std::string format = reader.text("/", "format"); format != format_name) {
    reader.refuse("/", fmt::format("format is '{}'; valid: {}", format, format_name));
  }
  if (const std::int64_t version = reader.integer("/", "format_version"); version != format_version) {
    reader.refuse("/", fmt::format("format_version is {}; valid: {}", version, format_version));
  }
  TransformSet set;
  set.head_dim = reader.integer("/", "head_dim");
  set.num_kv_heads = reader.integer("/", "num_kv_heads");
  if (set.head_dim < 1 || set.num_kv_heads < 1) {
    reader.refuse("/", fmt::format("head_dim {} and num_kv_heads {}; valid: 1 or more", set.head_dim,
                                   set.num_kv_heads));
  }
  visit_settings(
      set.settings,
      [&](const char* name, auto& value) {
        value = static_cast<std::remove_reference_t<decltype(value)>>(reader.integer("/", name));
      },
      [&](const char* name, double& value) { value = reader.real("/", name); });
  set.settings.bits.clear();
  for (const double bits : reader.numbers("/bits", {-1})) set.settings.bits.push_back(static_cast<int>(bits));
  try {
    set.settings.blocks = parse_block_kind(reader.text("/", "blocks"));
    set.settings.metric = parse_query_metric(reader.text("/", "metric"));
    set.rope.layout = value_of(layout_names, reader.text("/", "rope_layout"), "rope_layout");
    set.settings.validate();
  } catch (const UsageError& error) {
    throw Error(fmt::format("{}: {}", path, error.what()));  // a fault of the file, not of the request
  }
  if (const std::int64_t rotary_dim = reader.integer("/", "rotary_dim"); rotary_dim != 0) {
    if (rotary_dim < 0 || rotary_dim > set.head_dim || rotary_dim % 2 != 0) {
      reader.refuse("/",
                    fmt::format("rotary_dim is {}; valid: even, 0..head_dim {}", rotary_dim, set.head_dim));
    }
    set.rope.inv_freq = reader.numbers("/rope_inv_freq", {rotary_dim / 2});
  }
  for (const std::string& name : reader.children("/sources")) {
    const std::string group = "/sources/" + name;
    set.sources.push_back({reader.text(group, "name"), reader.text(group, "sha256"),
                           reader.text(group, "model"), reader.text(group, "source"),
                           reader.integer(group, "tokens")});
  }
  const std::vector<std::string> layers = reader.children("/layers");
  if (layers.empty()) reader.refuse("/layers", "has no layer; valid: one or more");
  for (const std::string& name : layers) {
    const bool digits =
        !name.empty() && name.size() <= 9 && name.find_first_not_of("0123456789") == std::string::npos;
    if (!digits) reader.refuse("/layers/" + name, "is not a layer; valid: names such as 005");
    read_layer(reader, std::stoll(name), set);
  }
  return set;
}

}  // namespace rotorquant::evaluation
