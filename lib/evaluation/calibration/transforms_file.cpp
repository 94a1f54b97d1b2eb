#include "evaluation/calibration/transforms_file.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <vector>

#include "evaluation/dump/hdf5.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

constexpr const char* format_name = "rotorquant-transforms";
constexpr std::int64_t format_version = 1;

constexpr std::array<std::pair<QueryMetric, const char*>, 3> metric_names = {
    {{QueryMetric::attention, "attention"},
     {QueryMetric::uniform, "uniform"},
     {QueryMetric::identity, "identity"}}};
constexpr std::array<std::pair<BlockKind, const char*>, 2> block_names = {
    {{BlockKind::rotor, "rotor"}, {BlockKind::general, "general"}}};
constexpr std::array<std::pair<RopeLayout, const char*>, 2> layout_names = {
    {{RopeLayout::half, "half"}, {RopeLayout::interleaved, "interleaved"}}};

template <typename Names, typename Value>
const char* name_of(const Names& names, Value value) {
  for (const auto& [known, name] : names) {
    if (known == value) return name;
  }
  return "";
}

template <typename Names>
auto value_of(const Names& names, const std::string& name, const std::string& what) {
  std::string valid;
  for (const auto& [known, known_name] : names) {
    if (name == known_name) return known;
    valid += (valid.empty() ? "" : ", ") + std::string(known_name);
  }
  throw UsageError(fmt::format("{} '{}' is unknown; valid: {}", what, name, valid));
}

std::string layer_path(std::int64_t layer) {
  return fmt::format("/layers/{:03}", layer);
}

std::string bits_path(std::int64_t layer, int bits) {
  return fmt::format("{}/bits_{}", layer_path(layer), bits);
}

std::size_t element_count(const std::vector<std::int64_t>& shape) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  return static_cast<std::size_t>(count);
}

// The names and places of all scalar settings, for writing and for reading alike.
template <typename Settings, typename Integer, typename Real>
void visit_settings(Settings& settings, const Integer& integer, const Real& real) {
  integer("layers", settings.layers);
  integer("iterations", settings.iterations);
  integer("centroid_bits", settings.centroid_bits);
  integer("scale_bits", settings.scale.bits);
  integer("scale_steps_per_octave", settings.scale.steps_per_octave);
  integer("sinks", settings.sinks);
  integer("min_context", settings.min_context);
  real("attention_power", settings.attention_power);
  real("attention_mix", settings.attention_mix);
  real("scale_power", settings.scale_power);
  real("covariance_shrinkage", settings.covariance_shrinkage);
  real("metric_regularisation", settings.metric_regularisation);
  integer("kmeans_restarts", settings.kmeans_restarts);
  integer("kmeans_iterations", settings.kmeans_iterations);
  integer("seed", settings.seed);
}

class Writer {
 public:
  explicit Writer(const std::string& path) : path_(path), partial_(path + ".partial") {
    const hdf5::PropertyList creation = without_times(H5P_FILE_CREATE);
    file_ = hdf5::File(H5Fcreate(partial_.c_str(), H5F_ACC_TRUNC, creation.get(), H5P_DEFAULT));
    if (!file_) throw Error(path + ": cannot be written; valid: a file in a folder that is writable");
    pending_ = true;
  }
  ~Writer() {
    if (!pending_) return;
    file_.close();
    std::error_code ignored;
    std::filesystem::remove(partial_, ignored);
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  void group(const std::string& name) {
    const hdf5::PropertyList creation = without_times(H5P_GROUP_CREATE);
    const hdf5::Group group(H5Gcreate2(file_.get(), name.c_str(), H5P_DEFAULT, creation.get(), H5P_DEFAULT));
    check(static_cast<bool>(group));
  }
  void attribute(const std::string& object, const char* name, std::int64_t value) {
    attribute(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value);
  }
  void attribute(const std::string& object, const char* name, double value) {
    attribute(object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value);
  }
  void attribute(const std::string& object, const char* name, const std::string& text) {
    const hdf5::Datatype type(H5Tcopy(H5T_C_S1));
    H5Tset_size(type.get(), text.size() + 1);
    H5Tset_cset(type.get(), H5T_CSET_UTF8);
    attribute(object, name, type.get(), type.get(), text.c_str());
  }
  void dataset(const std::string& name, const std::vector<std::int64_t>& shape,
               const std::vector<float>& values) {
    dataset(name, shape, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, values.size(), values.data());
  }
  void dataset(const std::string& name, const std::vector<std::int64_t>& shape,
               const std::vector<double>& values) {
    dataset(name, shape, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, values.size(), values.data());
  }
  void dataset(const std::string& name, const std::vector<std::int64_t>& shape,
               const std::vector<std::int32_t>& values) {
    dataset(name, shape, H5T_STD_I32LE, H5T_NATIVE_INT32, values.size(), values.data());
  }
  void dataset(const std::string& name, const std::vector<std::int64_t>& shape,
               const std::vector<std::uint8_t>& values) {
    dataset(name, shape, H5T_STD_U8LE, H5T_NATIVE_UINT8, values.size(), values.data());
  }
  void finish() {
    check(H5Fflush(file_.get(), H5F_SCOPE_LOCAL) >= 0 && file_.close() >= 0);
    std::error_code error;
    std::filesystem::rename(partial_, path_, error);
    if (error) throw Error(fmt::format("{}: cannot be written: {}", path_, error.message()));
    pending_ = false;
  }

 private:
  // Times would make equal fits differ.
  static hdf5::PropertyList without_times(hid_t property_class) {
    hdf5::PropertyList properties(H5Pcreate(property_class));
    H5Pset_obj_track_times(properties.get(), false);
    return properties;
  }
  void check(bool good) const {
    if (!good) throw Error(path_ + ": cannot be written" + hdf5::last_error());
  }
  void attribute(const std::string& object, const char* name, hid_t stored, hid_t in_memory,
                 const void* value) {
    const hdf5::Dataspace scalar(H5Screate(H5S_SCALAR));
    const hdf5::Attribute created(H5Acreate_by_name(file_.get(), object.c_str(), name, stored, scalar.get(),
                                                    H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    check(created && H5Awrite(created.get(), in_memory, value) >= 0);
  }
  void dataset(const std::string& name, const std::vector<std::int64_t>& shape, hid_t stored, hid_t in_memory,
               std::size_t count, const void* values) {
    const std::vector<hsize_t> extents(shape.begin(), shape.end());
    check(count == element_count(shape));
    const hdf5::Dataspace space(H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr));
    const hdf5::PropertyList creation = without_times(H5P_DATASET_CREATE);
    const hdf5::Dataset created(
        H5Dcreate2(file_.get(), name.c_str(), stored, space.get(), H5P_DEFAULT, creation.get(), H5P_DEFAULT));
    check(created &&
          (count == 0 || H5Dwrite(created.get(), in_memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0));
  }

  std::string path_;
  std::string partial_;
  hdf5::File file_;
  bool pending_ = false;
};

template <typename T>
void append(std::vector<T>& all, const std::vector<T>& part) {
  all.insert(all.end(), part.begin(), part.end());
}

void write_bits(Writer& writer, const std::vector<const HeadFit*>& heads, std::size_t index, std::int64_t dim,
                std::int64_t num_layers) {
  std::vector<float> delta;
  std::vector<float> deviations;
  std::vector<float> weights;
  std::vector<std::uint8_t> widths;
  std::vector<std::int32_t> triples;
  std::vector<float> blocks;
  std::vector<double> objective;
  const auto most = static_cast<std::size_t>(dim / 3);
  for (const HeadFit* head : heads) {
    const BitsFit& fit = head->bits[index];
    const CalibratedParameters& parameters = *fit.parameters;
    append(delta, parameters.transform.delta);
    append(deviations, parameters.deviations);
    append(weights, parameters.weights);
    append(widths, sequence_widths(parameters, {}));
    append(objective, {fit.objective.before, fit.objective.start, fit.objective.after, fit.objective.bound});
    for (std::size_t l = 0; l < static_cast<std::size_t>(num_layers); ++l) {
      const TripleLayer none;
      const TripleLayer& layer =
          l < parameters.transform.layers.size() ? parameters.transform.layers[l] : none;
      for (std::size_t g = 0; g < most; ++g) {
        const bool present = g < layer.triples.size();
        for (std::size_t i = 0; i < 3; ++i) triples.push_back(present ? layer.triples[g][i] : -1);
        for (std::size_t i = 0; i < 9; ++i) blocks.push_back(present ? layer.blocks[g][i] : 0.0F);
      }
    }
  }
  const auto count = static_cast<std::int64_t>(heads.size());
  const std::string group = bits_path(heads[0]->layer, heads[0]->bits[index].bits);
  writer.group(group);
  writer.dataset(group + "/delta", {count, dim}, delta);
  writer.dataset(group + "/deviations", {count, dim}, deviations);
  writer.dataset(group + "/weights", {count, dim}, weights);
  writer.dataset(group + "/widths", {count, dim}, widths);
  writer.dataset(group + "/triples", {count, num_layers, dim / 3, 3}, triples);
  writer.dataset(group + "/blocks", {count, num_layers, dim / 3, 3, 3}, blocks);
  writer.dataset(group + "/objective", {count, 4}, objective);
}

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
    set.heads.push_back({layer, static_cast<std::int64_t>(head), {}});
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

const char* query_metric_name(QueryMetric metric) {
  return name_of(metric_names, metric);
}
QueryMetric parse_query_metric(const std::string& name) {
  return value_of(metric_names, name, "query metric");
}
const char* block_kind_name(BlockKind kind) {
  return name_of(block_names, kind);
}
BlockKind parse_block_kind(const std::string& name) {
  return value_of(block_names, name, "block kind");
}

void write_transforms(const TransformSet& set, const std::string& path) {
  const hdf5::Session session;
  Writer writer(path);
  writer.attribute("/", "format", std::string(format_name));
  writer.attribute("/", "format_version", format_version);
  writer.attribute("/", "head_dim", set.head_dim);
  writer.attribute("/", "num_kv_heads", set.num_kv_heads);
  writer.attribute("/", "blocks", std::string(block_kind_name(set.settings.blocks)));
  writer.attribute("/", "metric", std::string(query_metric_name(set.settings.metric)));
  visit_settings(
      set.settings,
      [&](const char* name, auto value) { writer.attribute("/", name, static_cast<std::int64_t>(value)); },
      [&](const char* name, double value) { writer.attribute("/", name, value); });
  writer.attribute("/", "rope_layout", std::string(name_of(layout_names, set.rope.layout)));
  writer.attribute("/", "rotary_dim", set.rope.rotary_dim());
  writer.dataset("/bits", {static_cast<std::int64_t>(set.settings.bits.size())},
                 std::vector<std::int32_t>(set.settings.bits.begin(), set.settings.bits.end()));
  if (!set.rope.inv_freq.empty()) {
    writer.dataset("/rope_inv_freq", {static_cast<std::int64_t>(set.rope.inv_freq.size())},
                   set.rope.inv_freq);
  }
  writer.group("/sources");
  for (std::size_t i = 0; i < set.sources.size(); ++i) {
    const CalibrationSource& source = set.sources[i];
    const std::string group = fmt::format("/sources/{:03}", i);
    writer.group(group);
    writer.attribute(group, "name", source.name);
    writer.attribute(group, "sha256", source.sha256);
    writer.attribute(group, "model", source.model);
    writer.attribute(group, "source", source.source);
    writer.attribute(group, "tokens", source.tokens);
  }
  writer.group("/layers");
  for (const std::int64_t layer : set.layers()) {
    std::vector<const HeadFit*> heads;
    for (const HeadFit& head : set.heads) {
      if (head.layer == layer) heads.push_back(&head);
    }
    std::vector<float> centroids;
    std::vector<float> metric;
    std::vector<std::int32_t> zeros;
    for (std::size_t h = 0; h < heads.size(); ++h) {
      if (heads[h]->kv_head != static_cast<std::int64_t>(h)) break;
      const CalibratedParameters& parameters = *heads[h]->bits.at(0).parameters;
      append(centroids, parameters.centroids);
      append(metric, parameters.query_metric);
      zeros.push_back(parameters.scale.zero);
    }
    if (static_cast<std::int64_t>(zeros.size()) != set.num_kv_heads) {
      throw Error(fmt::format("{}: layer {} has fits for {} KV heads; valid: all of 0..{}, in order", path,
                              layer, heads.size(), set.num_kv_heads - 1));
    }
    const std::int64_t num_centroids = heads[0]->bits[0].parameters->num_centroids();
    const std::string group = layer_path(layer);
    writer.group(group);
    writer.dataset(group + "/centroids", {set.num_kv_heads, num_centroids, set.head_dim}, centroids);
    writer.dataset(group + "/query_metric", {set.num_kv_heads, set.head_dim, set.head_dim}, metric);
    writer.dataset(group + "/scale_zero", {set.num_kv_heads}, zeros);
    for (std::size_t b = 0; b < set.settings.bits.size(); ++b) {
      write_bits(writer, heads, b, set.head_dim, set.settings.layers);
    }
  }
  writer.finish();
}

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
