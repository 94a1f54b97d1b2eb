#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <vector>

#include "evaluation/calibration/transforms_file.hpp"
#include "evaluation/calibration/transforms_format.hpp"
#include "evaluation/dump/hdf5.hpp"
#include "evaluation/files/partial_file.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {

using namespace transforms_format;

namespace {

class Writer {
 public:
  explicit Writer(const std::string& path) : path_(path), partial_(path) {
    const hdf5::PropertyList creation = without_times(H5P_FILE_CREATE);
    file_ = hdf5::File(H5Fcreate(partial_.path().c_str(), H5F_ACC_TRUNC, creation.get(), H5P_DEFAULT));
    if (!file_) throw Error(path + ": cannot be written; valid: a file in a folder that is writable");
    partial_.created();
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
    partial_.publish();
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
  PartialFile partial_;
  hdf5::File file_;  // closed before the partial file is removed
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

}  // namespace

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
    KeyStatistics pooled;  // of all heads, one after the other
    for (const HeadFit* head : heads) {
      const KeyStatistics& part = *head->statistics;
      append(pooled.mean, part.mean);
      append(pooled.components, part.components);
      append(pooled.variances, part.variances);
      append(pooled.key_energy, part.key_energy);
      append(pooled.query_energy, part.query_energy);
    }
    visit_statistics(pooled, [&](const char* name, bool square, const std::vector<float>& values) {
      std::vector<std::int64_t> shape = {set.num_kv_heads, set.head_dim};
      if (square) shape.push_back(set.head_dim);
      writer.dataset(group + "/" + name, shape, values);
    });
    for (std::size_t b = 0; b < set.settings.bits.size(); ++b) {
      write_bits(writer, heads, b, set.head_dim, set.settings.layers);
    }
  }
  writer.finish();
}

}  // namespace rotorquant::evaluation
