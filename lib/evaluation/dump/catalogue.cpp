#include "evaluation/dump/catalogue.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "evaluation/dump/attributes.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

std::optional<TensorSource>& source_of(LayerSources& layer, const std::string& tensor) {
  return tensor == "key" ? layer.key : tensor == "value" ? layer.value : layer.query;
}

std::string letters_in_words(const std::string& axes) {
  return fmt::format("[{}]", fmt::join(axes, ", "));
}

// Builds a Catalogue; each step adds the problems it finds and goes on with what is sound.
class Examiner {
 public:
  Examiner(const hdf5::File& file, const DumpOptions& options) : file_(file), options_(options) {}

  Catalogue run() {
    const bool native = options_.maps.empty();
    if (native && !check_format(file_, catalogue_.problems)) return std::move(catalogue_);
    read_attributes(file_, native, info(), catalogue_.problems);
    const std::size_t attribute_problems = catalogue_.problems.size();
    if (native) {
      locate_native();
    } else {
      for (const AxisMap& map : options_.maps) locate_mapped(map);
    }
    finish_info(native);
    // A number that could not be read, or a key of which nothing is known, would only repeat itself here.
    if (attribute_problems == 0 && (native || first_source("key") != nullptr))
      check_relations(info(), catalogue_.problems);
    check_shapes();
    read_vectors();
    return std::move(catalogue_);
  }

 private:
  DumpInfo& info() { return catalogue_.info; }
  void add(const std::string& path, const std::string& message) {
    catalogue_.problems.push_back({path, message});
  }

  // The datasets of /layers/NNN.
  void locate_native() {
    if (hdf5::object_kind(file_, "/layers") != hdf5::ObjectKind::group) {
      add("/layers", "group is missing; it holds one group for each layer");
      return;
    }
    const LayerPath layer_path = *parse_layer_path("/layers/{layer}");
    std::vector<std::string> without_query;
    bool any_query = false;
    for (const auto& [layer, digits] : layer_links(layer_path)) {
      const std::string group = layer_path.at(digits);
      if (hdf5::object_kind(file_, group) != hdf5::ObjectKind::group) {
        add(group, "is not a group");
        continue;
      }
      LayerSources& sources = catalogue_.layers[layer];
      sources.path = group;
      for (const char* tensor : {"key", "value"}) {
        source_of(sources, tensor) = describe(group + "/" + tensor, "HTD", std::nullopt);
      }
      const std::string query = group + "/query";
      if (hdf5::object_kind(file_, query) != hdf5::ObjectKind::missing) {
        sources.query = describe(query, "HTD", std::nullopt);
        any_query = true;
      } else {
        without_query.push_back(query);
        check_misspelt_query(group);
      }
    }
    if (catalogue_.layers.empty())
      add("/layers", "holds no layer; expected groups named by the layer's index");
    if (!any_query) return;
    for (const std::string& query : without_query)
      add(query, "dataset is missing, while other layers have queries");
  }

  // A misspelt optional name would silently drop what it holds.
  void check_misspelt_query(const std::string& group) {
    for (const std::string& name : hdf5::children(file_, group)) {
      const std::string hint = nearest_hint(name, {"query"});
      if (name != "key" && name != "value" && !hint.empty()) add(group + "/" + name, "unknown name" + hint);
    }
  }

  // Layer index and digits of every link that fits, in ascending order.
  std::vector<std::pair<std::int64_t, std::string>> layer_links(const LayerPath& path) {
    std::vector<std::pair<std::int64_t, std::string>> links;
    for (const std::string& link : hdf5::children(file_, path.group)) {
      const auto digits = path.digits_of(link);
      if (digits) {
        links.emplace_back(std::stoll(*digits), *digits);
      } else if (options_.maps.empty()) {
        add("/layers/" + link, "is not named by a layer's index");
      }
    }
    std::sort(links.begin(), links.end());
    for (std::size_t i = 1; i < links.size(); ++i) {
      if (links[i].first != links[i - 1].first) continue;
      add(path.at(links[i].second), fmt::format("names layer {} a second time", links[i].first));
      links.erase(links.begin() + static_cast<std::ptrdiff_t>(i--));
    }
    return links;
  }

  void locate_mapped(const AxisMap& map) {
    if (map.axes.empty()) return;  // read with the vectors
    if (map.layer_path) {
      if (hdf5::object_kind(file_, map.layer_path->group) != hdf5::ObjectKind::group) {
        add(map.layer_path->group, fmt::format("no such group (mapped to {})", map.tensor));
        return;
      }
      const auto links = layer_links(*map.layer_path);
      if (links.empty()) add(map.path, fmt::format("no link matches (mapped to {})", map.tensor));
      for (const auto& [layer, digits] : links) {
        const std::string path = map.layer_path->at(digits);
        catalogue_.layers[layer].path = path;
        source_of(catalogue_.layers[layer], map.tensor) = describe(path, map.axes, map.batch);
      }
      return;
    }
    const auto source = describe(map.path, map.axes, map.batch);
    std::int64_t num_layers = 1;
    const std::size_t layer_axis = map.axes.find('L');
    if (source && layer_axis != std::string::npos) {
      num_layers = hdf5::extents(hdf5::open_dataset(file_, map.path))[layer_axis];
      if (num_layers == 0) add(map.path, "has no layers");
    }
    for (std::int64_t layer = 0; layer < num_layers; ++layer) {
      catalogue_.layers[layer].path = map.path;
      std::optional<TensorSource>& slot = source_of(catalogue_.layers[layer], map.tensor);
      slot = source;
      if (slot) slot->layer_index = layer;
    }
  }

  // Type, rank and extents of one dataset; nullopt with a problem where it cannot be read as a tensor.
  std::optional<TensorSource> describe(const std::string& path, const std::string& axes,
                                       std::optional<std::int64_t> batch) {
    switch (hdf5::object_kind(file_, path)) {
      case hdf5::ObjectKind::missing:
        add(path, "dataset is missing");
        return std::nullopt;
      case hdf5::ObjectKind::dataset:
        break;
      default:
        add(path, "is not a dataset");
        return std::nullopt;
    }
    const std::size_t before = catalogue_.problems.size();
    hdf5::Dataset dataset;
    try {
      dataset = hdf5::open_dataset(file_, path);
    } catch (const Error& error) {
      add(path, error.what());
      return std::nullopt;
    }
    TensorSource source{.path = path, .axes = axes};
    try {
      source.type = element_type(file_, dataset, path);
    } catch (const Error& error) {
      add(path, error.what());
    }
    const auto missing = hdf5::missing_filters(dataset);
    if (!missing.empty()) {
      add(path, fmt::format("is compressed with {}, which this HDF5 library cannot read",
                            fmt::join(missing, ", ")));
    }
    const auto shape = hdf5::extents(dataset);
    if (shape.size() != axes.size()) {
      add(path, fmt::format("has rank {}, expected rank {}: {}", shape.size(), axes.size(),
                            letters_in_words(axes)));
      return std::nullopt;
    }
    source.heads = 1;
    for (std::size_t i = 0; i < axes.size(); ++i) {
      if (axes[i] == 'H') source.heads = shape[i];
      if (axes[i] == 'T') source.tokens = shape[i];
      if (axes[i] == 'D') source.channels = shape[i];
      if (axes[i] == 'B') {
        if (shape[i] == 0) {
          add(path, "is empty: no sequence along axis B");
        } else if (shape[i] != 1 && !batch) {
          add(path,
              fmt::format("holds {} sequences; choose one with batch=0 to batch={}", shape[i], shape[i] - 1));
        } else if (batch.value_or(0) >= shape[i]) {
          add(path, fmt::format("batch={} is out of range: it holds {} sequences", *batch, shape[i]));
        }
        source.batch_index = batch.value_or(0);
      }
    }
    return catalogue_.problems.size() == before ? std::optional(source) : std::nullopt;
  }

  const TensorSource* first_source(const std::string& tensor) {
    for (auto& [layer, sources] : catalogue_.layers) {
      const auto& source = source_of(sources, tensor);
      if (source) return &*source;
    }
    return nullptr;
  }

  // What the arrays tell: all that a mapped file has, and T, T_q and d_v of a native one.
  void finish_info(bool native) {
    for (const auto& [layer, sources] : catalogue_.layers) info().layers.push_back(layer);
    const TensorSource* key = first_source("key");
    const TensorSource* value = first_source("value");
    const TensorSource* query = first_source("query");
    if (key != nullptr) {
      info().num_tokens = key->tokens;
      info().element_type = element_type_name(key->type);
    }
    if (value != nullptr) info().value_dim = value->channels;
    if (query != nullptr) info().num_queries = query->tokens;
    if (query == nullptr) info().no_queries_reason = "the dump has no queries";
    if (!native && key != nullptr) {
      info().num_layers = info().layers.back() + 1;
      info().num_kv_heads = key->heads;
      info().num_query_heads = query != nullptr ? query->heads : key->heads;
      info().head_dim = key->channels;
      if (info().softmax_scale == 0.0)
        info().softmax_scale = 1.0 / std::sqrt(static_cast<double>(key->channels));
    }
    if (options_.softmax_scale) info().softmax_scale = *options_.softmax_scale;
    if (options_.causal) info().causal = *options_.causal;
  }

  void check_shapes() {
    const DumpInfo& expected = info();
    for (auto& [layer, sources] : catalogue_.layers) {
      if (expected.num_layers > 0 && layer >= expected.num_layers) {
        add(sources.path,
            fmt::format("layer {} is out of range: num_layers is {}", layer, expected.num_layers));
      }
      if (sources.key)
        check_shape(*sources.key, expected.num_kv_heads, expected.num_tokens, expected.head_dim);
      if (sources.value)
        check_shape(*sources.value, expected.num_kv_heads, expected.num_tokens, expected.value_dim);
      if (sources.query)
        check_shape(*sources.query, expected.num_query_heads, expected.num_queries, expected.head_dim);
      check_mapped_layer(layer, sources);
    }
  }

  // One tensor mapped over fewer layers than another.
  void check_mapped_layer(std::int64_t layer, LayerSources& sources) {
    for (const AxisMap& map : options_.maps) {
      if (map.axes.empty() || source_of(sources, map.tensor) || first_source(map.tensor) == nullptr) continue;
      add(map.path, fmt::format("has no {} for layer {}, which another map has", map.tensor, layer));
    }
  }

  // `tokens` and `channels` are those of the first dataset of their kind, or of the attributes.
  void check_shape(const TensorSource& source, std::int64_t heads, std::int64_t tokens,
                   std::int64_t channels) {
    if (source.tokens == 0 || source.heads == 0 || source.channels == 0) {
      add(source.path, fmt::format("is empty: {} heads, {} tokens, {} channels; each must be at least 1",
                                   source.heads, source.tokens, source.channels));
      return;
    }
    const auto compare = [&](const char* what, std::int64_t found, std::int64_t wanted) {
      if (wanted > 0 && found != wanted) {
        add(source.path, fmt::format("has {} {}, expected {}", found, what, wanted));
      }
    };
    compare("heads", source.heads, heads);
    compare("tokens", source.tokens, tokens);
    compare("channels", source.channels, channels);
  }

  // A dataset of rank 1 with `length` elements, or nothing where it is absent.
  template <typename Read>
  auto read_vector(const std::string& path, std::int64_t length, const char* unit, const Read& read)
      -> decltype(read(std::declval<const hdf5::Dataset&>())) {
    const hdf5::ObjectKind kind = hdf5::object_kind(file_, path);
    if (kind == hdf5::ObjectKind::missing) return {};
    if (kind != hdf5::ObjectKind::dataset) {
      add(path, "is not a dataset");
      return {};
    }
    try {
      auto values = read(hdf5::open_dataset(file_, path));
      if (static_cast<std::int64_t>(values.size()) == length) return values;
      add(path, fmt::format("has {} elements, expected {} = {}", values.size(), unit, length));
    } catch (const Error& error) {
      add(path, error.what());
    }
    return {};
  }

  std::string mapped_path(const std::string& tensor) {
    for (const AxisMap& map : options_.maps) {
      if (map.tensor != tensor) continue;
      if (hdf5::object_kind(file_, map.path) == hdf5::ObjectKind::missing)
        add(map.path, "dataset is missing");
      return map.path;
    }
    return "";
  }

  void read_vectors() {
    const bool native = options_.maps.empty();
    if (first_source("key") == nullptr) return;
    const auto read_positions = [&](const std::string& path, std::int64_t length, const char* unit) {
      auto values =
          path.empty() ? std::vector<std::int64_t>{} : read_vector(path, length, unit, hdf5::read_integers);
      const auto negative = std::find_if(values.begin(), values.end(), [](std::int64_t v) { return v < 0; });
      if (negative != values.end()) {
        add(path, fmt::format("element {} is {}, expected at least 0", negative - values.begin(), *negative));
      }
      return values;
    };
    catalogue_.positions =
        read_positions(native ? "/positions" : mapped_path("positions"), info().num_tokens, "num_tokens");
    info().has_positions = !catalogue_.positions.empty();
    if (native) {
      catalogue_.token_ids = read_vector("/token_ids", info().num_tokens, "num_tokens", hdf5::read_integers);
      info().has_token_ids = !catalogue_.token_ids.empty();
      if (info().rope_stage != "none") read_frequencies();
    }
    if (info().num_queries > 0) read_query_positions(read_positions);
  }

  template <typename ReadPositions>
  void read_query_positions(const ReadPositions& read_positions) {
    const std::size_t before = catalogue_.problems.size();
    std::vector<std::int64_t> query_positions;
    std::string origin;
    for (const std::string& path : query_position_paths()) {
      auto values = read_positions(path, info().num_queries, "the number of queries");
      if (values.empty()) continue;
      if (!query_positions.empty() && values != query_positions) {
        add(path, fmt::format("differs from {}; one set of queries is read for all layers", origin));
      }
      query_positions = std::move(values);
      origin = path;
    }
    if (catalogue_.problems.size() != before) return;
    if (!query_positions.empty()) {
      find_query_tokens(query_positions, origin);
    } else if (info().num_queries == info().num_tokens) {
      catalogue_.query_tokens.resize(static_cast<std::size_t>(info().num_tokens));
      std::iota(catalogue_.query_tokens.begin(), catalogue_.query_tokens.end(), std::int64_t{0});
    } else {
      add(first_source("query")->path,
          fmt::format(
              "has {} queries for {} keys: {} must give the position of each", info().num_queries,
              info().num_tokens,
              options_.maps.empty() ? "a dataset query_positions beside it" : "--map query_positions=/PATH"));
    }
  }

  // A query sees the keys at its own position and before. Without `positions`, key t is at position t.
  void find_query_tokens(const std::vector<std::int64_t>& query_positions, const std::string& origin) {
    std::vector<std::int64_t> keys = catalogue_.positions;
    if (keys.empty()) {
      keys.resize(static_cast<std::size_t>(info().num_tokens));
      std::iota(keys.begin(), keys.end(), std::int64_t{0});
    }
    if (!std::is_sorted(keys.begin(), keys.end())) {
      add(origin, "cannot be placed among the keys, whose positions do not ascend");
      return;
    }
    for (const std::int64_t position : query_positions) {
      if (position < keys.front() || position > keys.back()) {
        add(origin, fmt::format("element {} is {}, expected a position of the keys, {} to {}",
                                catalogue_.query_tokens.size(), position, keys.front(), keys.back()));
        return;
      }
      catalogue_.query_tokens.push_back(std::upper_bound(keys.begin(), keys.end(), position) - keys.begin() -
                                        1);
    }
  }

  void read_frequencies() {
    const std::string path = "/rope_inv_freq";
    auto values = read_vector(path, info().rotary_dim / 2, "rotary_dim / 2", hdf5::read_floats);
    const auto bad = std::find_if(values.begin(), values.end(), [](double v) { return !std::isfinite(v); });
    if (bad != values.end()) {
      add(path, fmt::format("element {} is {}, expected a finite number", bad - values.begin(), *bad));
    }
    info().has_rope_inv_freq = !values.empty();
    catalogue_.rope_inv_freq = std::move(values);
  }

  std::vector<std::string> query_position_paths() {
    if (!options_.maps.empty()) return {mapped_path("query_positions")};
    std::vector<std::string> paths{"/query_positions"};
    for (auto& [layer, sources] : catalogue_.layers) {
      if (sources.query) paths.push_back(sources.query->path + "_positions");
    }
    return paths;
  }

  const hdf5::File& file_;
  const DumpOptions& options_;
  Catalogue catalogue_;
};

}  // namespace

Catalogue examine(const hdf5::File& file, const DumpOptions& options) {
  const hdf5::Session session;
  return Examiner(file, options).run();
}

}  // namespace rotorquant::evaluation
