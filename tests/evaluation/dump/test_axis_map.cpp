// Other people's files: the mapping language, and dense arrays in several axis orders.
#include <cmath>

#include "dump_files.hpp"
#include "evaluation/dump/dump.hpp"
#include "evaluation/dump/validator.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

using testing::FileEditor;
using testing::SmallDump;
using testing::TempPath;

struct Axes {
  std::int64_t layers = 2;
  std::int64_t batch = 1;
  std::int64_t heads = 2;
  std::int64_t tokens = 3;
  std::int64_t channels = 5;
  std::int64_t extent(char axis) const {
    switch (axis) {
      case 'L':
        return layers;
      case 'B':
        return batch;
      case 'H':
        return heads;
      case 'T':
        return tokens;
      default:
        return channels;
    }
  }
};

// A value that tells all its coordinates.
float coded(std::int64_t l, std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t c) {
  return static_cast<float>((((l * 10 + b) * 10 + h) * 10 + t) * 10 + c);
}

// Writes an array with `order` as its axes, slowest first.
void write_array(FileEditor& file, const std::string& path, const std::string& order, const Axes& axes,
                 std::int64_t layer = 0) {
  std::vector<hsize_t> shape;
  for (const char axis : order) shape.push_back(static_cast<hsize_t>(axes.extent(axis)));
  std::vector<float> values;
  std::vector<std::int64_t> at(order.size(), 0);
  for (bool more = true; more;) {
    std::int64_t l = layer, b = 0, h = 0, t = 0, c = 0;
    for (std::size_t i = 0; i < order.size(); ++i) {
      (order[i] == 'L' ? l : order[i] == 'B' ? b : order[i] == 'H' ? h : order[i] == 'T' ? t : c) = at[i];
    }
    values.push_back(coded(l, b, h, t, c));
    more = false;
    for (std::size_t i = order.size(); i-- > 0 && !more;) {
      more = ++at[i] < axes.extent(order[i]);
      if (!more) at[i] = 0;
    }
  }
  file.floats(path, shape, values);
}

std::vector<float> expected_slab(const Axes& axes, std::int64_t l, std::int64_t b, std::int64_t h) {
  std::vector<float> slab;
  for (std::int64_t t = 0; t < axes.tokens; ++t) {
    for (std::int64_t c = 0; c < axes.channels; ++c) slab.push_back(coded(l, b, h, t, c));
  }
  return slab;
}

class AxisOrders : public ::testing::TestWithParam<const char*> {};

TEST_P(AxisOrders, ReadTheSameTensors) {
  const std::string order = GetParam();
  const TempPath path("axes_" + order + ".h5");
  Axes axes;
  Axes query_axes;
  query_axes.heads = order.find('H') == std::string::npos ? 1 : 4;
  {
    FileEditor file(path.str(), FileEditor::Mode::create);
    write_array(file, "/past/k", order, axes);
    write_array(file, "/past/v", order, axes);
    write_array(file, "/q", order, query_axes);
  }
  DumpOptions options;
  options.maps =
      parse_axis_maps({"key=/past/k,axes=" + order, "value=/past/v,axes=" + order, "query=/q,axes=" + order});
  const Dump dump = Dump::open(path.str(), options);
  const bool many_layers = order.find('L') != std::string::npos;
  const bool many_heads = order.find('H') != std::string::npos;
  EXPECT_EQ(dump.info().layers,
            many_layers ? (std::vector<std::int64_t>{0, 1}) : std::vector<std::int64_t>{0});
  EXPECT_EQ(dump.info().num_kv_heads, many_heads ? 2 : 1);
  EXPECT_EQ(dump.info().num_query_heads, many_heads ? 4 : 1);
  EXPECT_EQ(dump.info().num_tokens, 3);
  EXPECT_EQ(dump.info().head_dim, 5);
  EXPECT_EQ(dump.info().softmax_scale, 1.0 / std::sqrt(5.0));
  EXPECT_TRUE(dump.info().causal);
  EXPECT_EQ(dump.info().rope_stage, "none");
  for (const std::int64_t layer : dump.info().layers) {
    for (std::int64_t h = 0; h < dump.info().num_kv_heads; ++h) {
      EXPECT_EQ(dump.read_key(layer, h), expected_slab(axes, layer, 0, h));
      EXPECT_EQ(dump.read_value(layer, h), expected_slab(axes, layer, 0, h));
    }
    for (std::int64_t h = 0; h < dump.info().num_query_heads; ++h) {
      EXPECT_EQ(dump.read_query(layer, h), expected_slab(axes, layer, 0, h));
    }
  }
  // Fewer tokens, where tokens are not the slowest axis.
  options.max_tokens = 2;
  const std::vector<float> whole = expected_slab(axes, 0, 0, 0);
  EXPECT_EQ(Dump::open(path.str(), options).read_key(0, 0),
            std::vector<float>(whole.begin(), whole.begin() + 10));
}

INSTANTIATE_TEST_SUITE_P(AxisMap, AxisOrders,
                         ::testing::Values("LHTD", "LBHTD", "LTHD", "HTD", "THD", "TD", "DT", "BTHD", "HDT",
                                           "DTHL", "THLD", "BLTDH"));

TEST(AxisMap, ChoosesASequenceOfABatch) {
  const TempPath path("batch.h5");
  Axes axes;
  axes.batch = 3;
  {
    FileEditor file(path.str(), FileEditor::Mode::create);
    write_array(file, "/k", "BHTD", axes);
    write_array(file, "/v", "BHTD", axes);
  }
  DumpOptions options;
  options.maps = parse_axis_maps({"key=/k,axes=BHTD,batch=2", "value=/v,batch=2,axes=BHTD"});
  EXPECT_EQ(Dump::open(path.str(), options).read_key(0, 1), expected_slab(axes, 0, 2, 1));
  const auto error_of = [&](const std::string& key) -> std::string {
    options.maps = parse_axis_maps({key, "value=/v,axes=BHTD,batch=0"});
    try {
      Dump::open(path.str(), options);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(error_of("key=/k,axes=BHTD"),
            path.str() + ": /k: holds 3 sequences; choose one with batch=0 to batch=2");
  EXPECT_EQ(error_of("key=/k,axes=BHTD,batch=3"),
            path.str() + ": /k: batch=3 is out of range: it holds 3 sequences");
}

class LayerPlaces : public ::testing::TestWithParam<const char*> {};

TEST_P(LayerPlaces, MatchTheFilesNumbering) {
  const TempPath path("layer_paths.h5");
  const Axes axes;
  {
    FileEditor file(path.str(), FileEditor::Mode::create);
    for (const std::int64_t layer : {2, 10}) {
      const std::string group = "/model/layers." + std::to_string(layer);
      write_array(file, group + "/attn/k", "HTD", axes, layer);
      write_array(file, group + "/attn/v", "HTD", axes, layer);
    }
    file.group("/model/layers.bak");
  }
  const std::string place = GetParam();
  DumpOptions options;
  options.maps = parse_axis_maps({"key=/model/layers." + place + "/attn/k,axes=HTD",
                                  "value=/model/layers." + place + "/attn/v,axes=HTD"});
  const Dump dump = Dump::open(path.str(), options);
  EXPECT_EQ(dump.info().layers, (std::vector<std::int64_t>{2, 10}));
  EXPECT_EQ(dump.info().num_layers, 11);
  EXPECT_EQ(dump.read_key(10, 1), expected_slab(axes, 10, 0, 1));
  EXPECT_EQ(dump.info().no_queries_reason, "the dump has no queries");
}

INSTANTIATE_TEST_SUITE_P(AxisMap, LayerPlaces, ::testing::Values("{layer}", "%d", "%03d"));

TEST(AxisMap, QueriesAtMappedPositions) {
  const TempPath path("mapped_positions.h5");
  const Axes axes;
  Axes late = axes;
  late.tokens = 1;
  {
    FileEditor file(path.str(), FileEditor::Mode::create);
    write_array(file, "/k", "THD", axes);
    write_array(file, "/v", "THD", axes);
    write_array(file, "/q", "THD", late);
    file.integers("/when", {2});
    file.attribute("softmax_scale", 0.75);
  }
  DumpOptions options;
  options.maps = parse_axis_maps({"key=/k,axes=THD", "value=/v,axes=THD", "query=/q,axes=THD"});
  const std::vector<Problem> problems = validate_dump(path.str(), options);
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_EQ(problems[0].message,
            "has 1 queries for 3 keys: --map query_positions=/PATH must give the position of each");
  options.maps =
      parse_axis_maps({"key=/k,axes=THD", "value=/v,axes=THD", "query=/q,axes=THD", "query_positions=/when"});
  EXPECT_EQ(Dump::open(path.str(), options).query_positions(), std::vector<std::int64_t>{2});
  EXPECT_EQ(Dump::open(path.str(), options).info().softmax_scale, 0.75);
  options.softmax_scale = 2.0;
  options.causal = false;
  EXPECT_EQ(Dump::open(path.str(), options).info().softmax_scale, 2.0);
  EXPECT_FALSE(Dump::open(path.str(), options).info().causal);
}

TEST(AxisMap, ProblemsOfMappedFiles) {
  const TempPath path("mapped_problems.h5");
  const Axes axes;
  Axes short_values = axes;
  short_values.tokens = 2;
  Axes heads_of_three = axes;
  heads_of_three.heads = 3;
  {
    FileEditor file(path.str(), FileEditor::Mode::create);
    write_array(file, "/k", "LHTD", axes);
    write_array(file, "/short", "LHTD", short_values);
    write_array(file, "/one", "HTD", axes);
    write_array(file, "/three", "LHTD", heads_of_three);
  }
  const auto first_problem = [&](const std::vector<std::string>& maps) {
    DumpOptions options;
    options.maps = parse_axis_maps(maps);
    const auto problems = validate_dump(path.str(), options);
    return problems.empty() ? "" : problems[0].path + ": " + problems[0].message;
  };
  EXPECT_EQ(first_problem({"key=/k,axes=LHTD", "value=/k,axes=LHTD"}), "");
  EXPECT_EQ(first_problem({"key=/k,axes=LHTD", "value=/v,axes=LHTD"}), "/v: dataset is missing");
  EXPECT_EQ(first_problem({"key=/k,axes=HTD", "value=/k,axes=LHTD"}),
            "/k: has rank 4, expected rank 3: [H, T, D]");
  EXPECT_EQ(first_problem({"key=/k,axes=LHTD", "value=/short,axes=LHTD"}),
            "/short: has 2 tokens, expected 3");
  EXPECT_EQ(first_problem({"key=/k,axes=LHTD", "value=/one,axes=HTD"}),
            "/one: has no value for layer 1, which another map has");
  EXPECT_EQ(first_problem({"key=/k,axes=LHTD", "value=/k,axes=LHTD", "query=/three,axes=LHTD"}),
            "/: num_query_heads = 3 is not a multiple of num_kv_heads = 2");
  EXPECT_EQ(first_problem({"key=/m/{layer}/k,axes=HTD", "value=/k,axes=LHTD"}),
            "/m: no such group (mapped to key)");
  EXPECT_EQ(first_problem({"key=/x{layer},axes=HTD", "value=/k,axes=LHTD"}),
            "/x{layer}: no link matches (mapped to key)");
}

struct BadMap {
  const char* text;
  const char* reason;
};

TEST(AxisMap, MalformedMapsAreUsageErrors) {
  const BadMap cases[] = {
      {"key", "no '=' after the tensor's name"},
      {"keys=/k,axes=HTD", "unknown tensor 'keys'; did you mean 'key'?"},
      {"key=/k", "no axes"},
      {"key=/k,axes=HXD", "'X' is not an axis letter"},
      {"key=/k,axes=HTDT", "axis T appears twice"},
      {"key=/k,axes=HD", "axis T is missing"},
      {"key=/k,axes=HT", "axis D is missing"},
      {"key=/k,axes=", "axis T is missing"},
      {"key=k,axes=HTD", "path 'k' does not begin with '/'"},
      {"key=/k/,axes=HTD", "path '/k/' names no array"},
      {"key=/k,axes=BTD,batch=-1", "batch '-1' is not an index"},
      {"key=/k,axes=BTD,batch=x", "batch 'x' is not an index"},
      {"key=/k,axes=HTD,batch=0", "batch is given but the axes have no B"},
      {"key=/{layer}/k,axes=LTD", "the layer is both in the path and an axis"},
      {"positions=/{layer}/p", "positions are shared by all layers"},
      {"key=/{layer}/%d,axes=TD", "has more than one place for the layer"},
  };
  for (const BadMap& bad : cases) {
    try {
      parse_axis_map(bad.text);
      ADD_FAILURE() << bad.text << " was accepted";
    } catch (const UsageError& error) {
      EXPECT_NE(std::string(error.what()).find(bad.reason), std::string::npos)
          << bad.text << ": " << error.what();
    }
  }
  EXPECT_THROW(parse_axis_maps({"key=/k,axes=TD"}), UsageError);
  EXPECT_THROW(parse_axis_maps({"key=/k,axes=TD", "value=/v,axes=TD", "key=/k,axes=TD"}), UsageError);
  EXPECT_TRUE(parse_axis_maps({}).empty());
  // A comma belongs to the path unless it begins an option.
  EXPECT_EQ(parse_axis_map("key=/a,b/k,axes=TD").path, "/a,b/k");
}

}  // namespace
}  // namespace rotorquant::evaluation
