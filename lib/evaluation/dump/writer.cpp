#include "evaluation/dump/writer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <vector>

#include "evaluation/dump/attributes.hpp"
#include "evaluation/files/partial_file.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

constexpr unsigned deflate_level = 4;
// HDF5's default chunk cache: larger chunks would be expanded again for every read that touches them.
constexpr std::int64_t largest_chunk_bytes = std::int64_t{1} << 20;

// The creation properties that keep times out of the file.
hdf5::PropertyList without_times(hid_t property_class) {
  hdf5::PropertyList properties(H5Pcreate(property_class));
  H5Pset_obj_track_times(properties.get(), false);
  return properties;
}

void check(bool good, const std::string& path) {
  if (!good) throw Error(path + ": cannot be written" + hdf5::last_error());
}

// One dataset [heads, rows, channels] and which of its heads are there.
struct TensorSink {
  hdf5::Dataset dataset;
  std::string path;
  std::int64_t rows = 0;
  std::int64_t channels = 0;
  std::vector<bool> written;  // [heads]
};

}  // namespace

struct DumpWriter::State {
  std::string path;
  std::optional<PartialFile> partial;  // outlives what is open in it
  DumpInfo info;
  ElementType type;
  hdf5::File file;
  std::map<std::int64_t, std::array<TensorSink, 3>> layers;  // key, value, query
  bool has_query_positions = false;

  void write_attribute(const char* name, const std::string& text);
  void write_attribute(const char* name, std::int64_t number) {
    write_attribute(name, H5T_STD_I64LE, H5T_NATIVE_INT64, &number);
  }
  void write_attribute(const char* name, double number) {
    write_attribute(name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &number);
  }
  void write_attribute(const char* name, hid_t stored, hid_t in_memory, const void* value);
  void write_attributes();
  hdf5::Group create_group(const std::string& group_path);
  TensorSink create_tensor(const std::string& tensor_path, std::int64_t heads, std::int64_t rows,
                           std::int64_t channels);
  void write_tensor(std::int64_t layer, std::size_t tensor, std::int64_t head, HostView<const float> values);
  void write_vector(const std::string& vector_path, hid_t stored, hid_t in_memory, std::size_t length,
                    std::int64_t expected, const void* values);
};

void DumpWriter::State::write_attribute(const char* name, hid_t stored, hid_t in_memory, const void* value) {
  const hdf5::Dataspace scalar(H5Screate(H5S_SCALAR));
  const hdf5::Attribute attribute(
      H5Acreate2(file.get(), name, stored, scalar.get(), H5P_DEFAULT, H5P_DEFAULT));
  check(attribute && H5Awrite(attribute.get(), in_memory, value) >= 0, path);
}

void DumpWriter::State::write_attribute(const char* name, const std::string& text) {
  const hdf5::Datatype type_of_text(H5Tcopy(H5T_C_S1));
  // HDF5 has no strings of length 0; the terminator makes the empty one possible.
  H5Tset_size(type_of_text.get(), text.size() + 1);
  H5Tset_cset(type_of_text.get(), H5T_CSET_UTF8);
  write_attribute(name, type_of_text.get(), type_of_text.get(), text.c_str());
}

void DumpWriter::State::write_attributes() {
  write_attribute("format", std::string("rotorquant-kv"));
  write_attribute("format_version", std::int64_t{1});
  write_attribute("model", info.model);
  write_attribute("num_layers", info.num_layers);
  write_attribute("num_query_heads", info.num_query_heads);
  write_attribute("num_kv_heads", info.num_kv_heads);
  write_attribute("head_dim", info.head_dim);
  write_attribute("rope_stage", info.rope_stage);
  write_attribute("rope_theta", info.rope_theta);
  write_attribute("rope_layout", info.rope_layout);
  write_attribute("rotary_dim", info.rotary_dim);
  write_attribute("softmax_scale", info.softmax_scale);
  write_attribute("causal", std::int64_t{info.causal ? 1 : 0});
  write_attribute("source", info.source);
}

hdf5::Group DumpWriter::State::create_group(const std::string& group_path) {
  const hdf5::PropertyList creation = without_times(H5P_GROUP_CREATE);
  hdf5::Group group(H5Gcreate2(file.get(), group_path.c_str(), H5P_DEFAULT, creation.get(), H5P_DEFAULT));
  check(static_cast<bool>(group), path);
  return group;
}

TensorSink DumpWriter::State::create_tensor(const std::string& tensor_path, std::int64_t heads,
                                            std::int64_t rows, std::int64_t channels) {
  const hdf5::Datatype stored = stored_type(type);
  const std::int64_t row_bytes = channels * static_cast<std::int64_t>(H5Tget_size(stored.get()));
  const std::int64_t chunk_rows = std::clamp<std::int64_t>(largest_chunk_bytes / row_bytes, 1, rows);
  const std::array<hsize_t, 3> shape{static_cast<hsize_t>(heads), static_cast<hsize_t>(rows),
                                     static_cast<hsize_t>(channels)};
  const std::array<hsize_t, 3> chunk{1, static_cast<hsize_t>(chunk_rows), static_cast<hsize_t>(channels)};
  const hdf5::PropertyList creation = without_times(H5P_DATASET_CREATE);
  H5Pset_chunk(creation.get(), 3, chunk.data());
  H5Pset_shuffle(creation.get());
  H5Pset_deflate(creation.get(), deflate_level);
  const hdf5::Dataspace space(H5Screate_simple(3, shape.data(), nullptr));
  TensorSink sink;
  sink.dataset = hdf5::Dataset(H5Dcreate2(file.get(), tensor_path.c_str(), stored.get(), space.get(),
                                          H5P_DEFAULT, creation.get(), H5P_DEFAULT));
  check(static_cast<bool>(sink.dataset), path);
  sink.path = tensor_path;
  sink.rows = rows;
  sink.channels = channels;
  sink.written.resize(static_cast<std::size_t>(heads), false);
  return sink;
}

void DumpWriter::State::write_tensor(std::int64_t layer, std::size_t tensor, std::int64_t head,
                                     HostView<const float> values) {
  const hdf5::Session session;
  const auto found = layers.find(layer);
  if (found == layers.end() || head < 0 ||
      head >= static_cast<std::int64_t>(found->second[tensor].written.size())) {
    throw Error(fmt::format("{}: layer {}, head {} is not part of this dump", path, layer, head));
  }
  TensorSink& sink = found->second[tensor];
  if (values.rows != sink.rows || values.cols != sink.channels) {
    throw Error(fmt::format("{}: {}: head {} is given as [{}, {}], expected [{}, {}]", path, sink.path, head,
                            values.rows, values.cols, sink.rows, sink.channels));
  }
  for (std::int64_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(rounded(type, values.data[i]))) continue;
    throw Error(fmt::format("{}: {}: {} at layer {}, head {}, token {}, channel {} has no finite {}", path,
                            sink.path, values.data[i], layer, head, i / sink.channels, i % sink.channels,
                            element_type_name(type)));
  }
  const std::array<hsize_t, 3> start{static_cast<hsize_t>(head), 0, 0};
  const std::array<hsize_t, 3> count{1, static_cast<hsize_t>(sink.rows), static_cast<hsize_t>(sink.channels)};
  const hdf5::Dataspace selection(H5Dget_space(sink.dataset.get()));
  H5Sselect_hyperslab(selection.get(), H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr);
  try {
    write_elements(sink.dataset, type, selection, {values.data, static_cast<std::size_t>(values.size())});
  } catch (const Error& error) {
    throw Error(fmt::format("{}: {}: {}", path, sink.path, error.what()));
  }
  sink.written[static_cast<std::size_t>(head)] = true;
}

void DumpWriter::State::write_vector(const std::string& vector_path, hid_t stored, hid_t in_memory,
                                     std::size_t length, std::int64_t expected, const void* values) {
  const hdf5::Session session;
  if (static_cast<std::int64_t>(length) != expected) {
    throw Error(fmt::format("{}: {}: {} elements given, expected {}", path, vector_path, length, expected));
  }
  const hsize_t shape = length;
  const hdf5::PropertyList creation = without_times(H5P_DATASET_CREATE);
  const hdf5::Dataspace space(H5Screate_simple(1, &shape, nullptr));
  const hdf5::Dataset dataset(H5Dcreate2(file.get(), vector_path.c_str(), stored, space.get(), H5P_DEFAULT,
                                         creation.get(), H5P_DEFAULT));
  check(dataset && H5Dwrite(dataset.get(), in_memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0, path);
}

DumpWriter::DumpWriter(const std::string& path, const DumpInfo& info, ElementType type)
    : state_(std::make_unique<State>()) {
  state_->path = path;
  state_->partial.emplace(path);
  state_->info = info;
  state_->type = type;
  std::vector<Problem> problems;
  check_relations(info, problems);
  if (problems.empty() && (info.num_tokens < 1 || info.value_dim < 1 || info.layers.empty())) {
    problems.push_back({"/", fmt::format("{} tokens, {} value channels, {} layers: each must be at least 1",
                                         info.num_tokens, info.value_dim, info.layers.size())});
  }
  if (!problems.empty()) throw Error(path + ": " + problems.front().message);

  const hdf5::Session session;
  stored_type(type);  // refuses a type that is only read
  const hdf5::PropertyList creation = without_times(H5P_FILE_CREATE);
  state_->file =
      hdf5::File(H5Fcreate(state_->partial->path().c_str(), H5F_ACC_TRUNC, creation.get(), H5P_DEFAULT));
  if (!state_->file) throw Error(path + ": cannot be written; valid: a file in a folder that is writable");
  state_->partial->created();
  state_->write_attributes();
  state_->create_group("/layers");
  for (const std::int64_t layer : info.layers) {
    const std::string group_path = fmt::format("/layers/{:03}", layer);
    state_->create_group(group_path);
    auto& sinks = state_->layers[layer];
    sinks[0] = state_->create_tensor(group_path + "/key", info.num_kv_heads, info.num_tokens, info.head_dim);
    sinks[1] =
        state_->create_tensor(group_path + "/value", info.num_kv_heads, info.num_tokens, info.value_dim);
    if (info.num_queries == 0) continue;
    sinks[2] =
        state_->create_tensor(group_path + "/query", info.num_query_heads, info.num_queries, info.head_dim);
  }
}

DumpWriter::~DumpWriter() = default;

void DumpWriter::write_key(std::int64_t layer, std::int64_t kv_head, HostView<const float> keys) {
  state_->write_tensor(layer, 0, kv_head, keys);
}

void DumpWriter::write_value(std::int64_t layer, std::int64_t kv_head, HostView<const float> values) {
  state_->write_tensor(layer, 1, kv_head, values);
}

void DumpWriter::write_query(std::int64_t layer, std::int64_t query_head, HostView<const float> queries) {
  state_->write_tensor(layer, 2, query_head, queries);
}

void DumpWriter::write_positions(std::span<const std::int64_t> positions) {
  state_->write_vector("/positions", H5T_STD_I64LE, H5T_NATIVE_INT64, positions.size(),
                       state_->info.num_tokens, positions.data());
}

void DumpWriter::write_token_ids(std::span<const std::int64_t> token_ids) {
  state_->write_vector("/token_ids", H5T_STD_I64LE, H5T_NATIVE_INT64, token_ids.size(),
                       state_->info.num_tokens, token_ids.data());
}

void DumpWriter::write_query_positions(std::span<const std::int64_t> positions) {
  for (const std::int64_t layer : state_->info.layers) {
    state_->write_vector(fmt::format("/layers/{:03}/query_positions", layer), H5T_STD_I64LE, H5T_NATIVE_INT64,
                         positions.size(), state_->info.num_queries, positions.data());
  }
  state_->has_query_positions = true;
}

void DumpWriter::write_rope_inv_freq(std::span<const double> frequencies) {
  state_->write_vector("/rope_inv_freq", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, frequencies.size(),
                       state_->info.rotary_dim / 2, frequencies.data());
}

void DumpWriter::finish() {
  State& state = *state_;
  for (const auto& [layer, sinks] : state.layers) {
    for (const TensorSink& sink : sinks) {
      const auto missing = std::find(sink.written.begin(), sink.written.end(), false);
      if (missing == sink.written.end()) continue;
      throw Error(fmt::format("{}: {}: head {} has not been written", state.path, sink.path,
                              missing - sink.written.begin()));
    }
  }
  if (state.info.num_queries > 0 && state.info.num_queries != state.info.num_tokens &&
      !state.has_query_positions) {
    throw Error(fmt::format("{}: {} queries for {} keys need query_positions", state.path,
                            state.info.num_queries, state.info.num_tokens));
  }
  // Compressed chunks may still be in memory: a full disk shows up here.
  bool good = true;
  for (auto& [layer, sinks] : state.layers) {
    for (TensorSink& sink : sinks) good = sink.dataset.close() >= 0 && good;
  }
  {
    const hdf5::Session session;
    good = good && H5Fflush(state.file.get(), H5F_SCOPE_LOCAL) >= 0 && state.file.close() >= 0;
    check(good, state.path);
  }
  state.partial->publish();
}

}  // namespace rotorquant::evaluation
