// Everything a dump can have wrong, each with the one line that says so. The validator must find what open
// finds.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "dump_files.hpp"
#include "evaluation/dump/dump.hpp"
#include "evaluation/dump/validator.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

using testing::FileEditor;
using testing::SmallDump;
using testing::TempPath;

std::string open_error(const std::string& path, const DumpOptions& options = {}) {
  try {
    Dump::open(path, options);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

struct BadCase {
  const char* name;
  std::function<void(FileEditor&)> spoil;  // of a valid dump
  const char* path;                        // the object to blame
  const char* message;                     // part of what is said about it
};

const std::vector<float>& zeros() {
  static const std::vector<float> values(4096, 0.0F);
  return values;
}

void opaque_key(FileEditor& file, std::size_t size, const char* tag) {
  const hdf5::Datatype type = testing::opaque_type(size, tag);
  file.dataset("/layers/005/key", {2, 6, 4}, type.get(), type.get(), nullptr);
}

void all_tensors_with_tokens(FileEditor& file, hsize_t tokens, hsize_t head_dim) {
  for (const char* layer : {"/layers/005", "/layers/007"}) {
    const std::string group = layer;
    file.floats(group + "/key", {2, tokens, head_dim}, zeros());
    file.floats(group + "/value", {2, tokens, 3}, zeros());
    file.floats(group + "/query", {4, tokens, head_dim}, zeros());
  }
}

const std::vector<BadCase>& bad_cases() {
  static const std::vector<BadCase> cases = {
      {"no_format", [](FileEditor& f) { f.remove_attribute("format"); }, "/",
       "attribute format is missing, expected 'rotorquant-kv'; arrays of another layout are read with --map"},
      {"wrong_format", [](FileEditor& f) { f.attribute("format", std::string("kv-cache")); }, "/",
       "attribute format is 'kv-cache', expected 'rotorquant-kv'"},
      {"format_is_number", [](FileEditor& f) { f.attribute("format", std::int64_t{1}); }, "/",
       "attribute format is of type int32, expected a string"},
      {"wrong_version", [](FileEditor& f) { f.attribute("format_version", std::int64_t{2}); }, "/",
       "attribute format_version is 2, this tool reads version 1"},
      {"no_version", [](FileEditor& f) { f.remove_attribute("format_version"); }, "/",
       "attribute format_version is missing"},
      {"no_head_dim", [](FileEditor& f) { f.remove_attribute("head_dim"); }, "/",
       "attribute head_dim is missing"},
      {"head_dim_text", [](FileEditor& f) { f.attribute("head_dim", std::string("four")); }, "/",
       "attribute head_dim is of type string, expected a number"},
      {"head_dim_fraction", [](FileEditor& f) { f.attribute("head_dim", 4.5); }, "/",
       "attribute head_dim is 4.5, expected an integer"},
      {"head_dim_zero", [](FileEditor& f) { f.attribute("head_dim", std::int64_t{0}); }, "/",
       "attribute head_dim is 0, expected at least 1"},
      {"head_dim_zero_everywhere",
       [](FileEditor& f) {
         f.attribute("head_dim", std::int64_t{0});
         all_tensors_with_tokens(f, 6, 0);
       },
       "/layers/005/key", "is empty: 2 heads, 6 tokens, 0 channels; each must be at least 1"},
      {"head_dim_array",
       [](FileEditor& f) {
         const std::int64_t values[] = {4, 4};
         f.attribute("head_dim", H5T_STD_I32LE, H5T_NATIVE_INT64, values, {2});
       },
       "/", "attribute head_dim has 2 elements, expected one"},
      {"heads_do_not_divide",
       [](FileEditor& f) {
         f.attribute("num_query_heads", std::int64_t{3});
         f.floats("/layers/005/query", {3, 6, 4}, zeros());
         f.floats("/layers/007/query", {3, 6, 4}, zeros());
       },
       "/", "num_query_heads = 3 is not a multiple of num_kv_heads = 2"},
      {"negative_heads", [](FileEditor& f) { f.attribute("num_kv_heads", std::int64_t{-2}); }, "/",
       "attribute num_kv_heads is -2, expected at least 1"},
      {"scale_zero", [](FileEditor& f) { f.attribute("softmax_scale", 0.0); }, "/",
       "attribute softmax_scale is 0, expected a positive number"},
      {"scale_nan", [](FileEditor& f) { f.attribute("softmax_scale", std::nan("")); }, "/",
       "attribute softmax_scale is nan, expected a finite number"},
      {"causal_two", [](FileEditor& f) { f.attribute("causal", std::int64_t{2}); }, "/",
       "attribute causal is 2, expected 0 or 1"},
      {"rope_stage", [](FileEditor& f) { f.attribute("rope_stage", std::string("after")); }, "/",
       "attribute rope_stage is 'after'; valid are post, pre, none"},
      {"rope_layout", [](FileEditor& f) { f.attribute("rope_layout", std::string("neox")); }, "/",
       "attribute rope_layout is 'neox'; valid are half, interleaved"},
      {"rotary_dim", [](FileEditor& f) { f.attribute("rotary_dim", std::int64_t{6}); }, "/",
       "attribute rotary_dim is 6, expected an even number from 2 to head_dim = 4"},
      {"rope_theta", [](FileEditor& f) { f.attribute("rope_theta", -1.0); }, "/",
       "attribute rope_theta is -1, expected a positive number"},
      {"no_layers", [](FileEditor& f) { f.remove("/layers"); }, "/layers", "group is missing"},
      {"empty_layers",
       [](FileEditor& f) {
         f.remove("/layers");
         f.group("/layers");
       },
       "/layers", "holds no layer"},
      {"layer_name", [](FileEditor& f) { f.group("/layers/first"); }, "/layers/first",
       "is not named by a layer's index"},
      {"layer_twice",
       [](FileEditor& f) { H5Lcreate_soft("/layers/005", f.id(), "/layers/5", H5P_DEFAULT, H5P_DEFAULT); },
       "/layers/5", "names layer 5 a second time"},
      {"layer_out_of_range", [](FileEditor& f) { f.attribute("num_layers", std::int64_t{7}); }, "/layers/007",
       "layer 7 is out of range: num_layers is 7"},
      {"no_key", [](FileEditor& f) { f.remove("/layers/007/key"); }, "/layers/007/key", "dataset is missing"},
      {"no_value", [](FileEditor& f) { f.remove("/layers/005/value"); }, "/layers/005/value",
       "dataset is missing"},
      {"one_query", [](FileEditor& f) { f.remove("/layers/007/query"); }, "/layers/007/query",
       "dataset is missing, while other layers have queries"},
      {"misspelt_query",
       [](FileEditor& f) {
         for (const char* layer : {"/layers/005/", "/layers/007/"}) {
           const std::string group = layer;
           H5Lmove(f.id(), (group + "query").c_str(), f.id(), (group + "queries").c_str(), H5P_DEFAULT,
                   H5P_DEFAULT);
         }
       },
       "/layers/005/queries", "unknown name; did you mean 'query'?"},
      {"key_is_group",
       [](FileEditor& f) {
         f.remove("/layers/005/key");
         f.group("/layers/005/key");
       },
       "/layers/005/key", "is not a dataset"},
      {"dangling_key",
       [](FileEditor& f) {
         f.remove("/layers/005/key");
         H5Lcreate_soft("/nowhere", f.id(), "/layers/005/key", H5P_DEFAULT, H5P_DEFAULT);
       },
       "/layers/005/key", "dataset is missing"},
      {"rank_two",
       [](FileEditor& f) {
         f.floats("/layers/005/key", {12, 4}, zeros());
       },
       "/layers/005/key", "has rank 2, expected rank 3: [H, T, D]"},
      {"rank_zero", [](FileEditor& f) { f.floats("/layers/005/key", {}, zeros()); }, "/layers/005/key",
       "has rank 0, expected rank 3: [H, T, D]"},
      {"key_heads",
       [](FileEditor& f) {
         f.floats("/layers/005/key", {3, 6, 4}, zeros());
       },
       "/layers/005/key", "has 3 heads, expected 2"},
      {"key_channels",
       [](FileEditor& f) {
         f.floats("/layers/005/key", {2, 6, 5}, zeros());
       },
       "/layers/005/key", "has 5 channels, expected 4"},
      {"value_tokens",
       [](FileEditor& f) {
         f.floats("/layers/007/value", {2, 5, 3}, zeros());
       },
       "/layers/007/value", "has 5 tokens, expected 6"},
      {"value_channels",
       [](FileEditor& f) {
         f.floats("/layers/007/value", {2, 6, 4}, zeros());
       },
       "/layers/007/value", "has 4 channels, expected 3"},
      {"query_heads",
       [](FileEditor& f) {
         f.floats("/layers/007/query", {2, 6, 4}, zeros());
       },
       "/layers/007/query", "has 2 heads, expected 4"},
      {"empty_tokens", [](FileEditor& f) { all_tensors_with_tokens(f, 0, 4); }, "/layers/005/key",
       "is empty: 2 heads, 0 tokens, 4 channels; each must be at least 1"},
      {"bare_uint16",
       [](FileEditor& f) {
         f.dataset("/layers/005/key", {2, 6, 4}, H5T_STD_U16LE, H5T_NATIVE_UINT16, nullptr);
       },
       "/layers/005/key",
       "is a bare uint16, whose meaning is ambiguous; bfloat16 bits need the attribute dtype = 'bfloat16'"},
      {"uint16_float16",
       [](FileEditor& f) {
         f.dataset("/layers/005/key", {2, 6, 4}, H5T_STD_U16LE, H5T_NATIVE_UINT16, nullptr);
         f.attribute("dtype", std::string("float16"), "/layers/005/key");
       },
       "/layers/005/key", "is uint16 with the attribute dtype = 'float16'; valid is 'bfloat16'"},
      {"int8",
       [](FileEditor& f) {
         f.dataset("/layers/005/key", {2, 6, 4}, H5T_STD_I8LE, H5T_NATIVE_INT8, nullptr);
       },
       "/layers/005/key", "is of type int8; valid are float16, float32, float64 and bfloat16"},
      {"unknown_float",
       [](FileEditor& f) {
         const hdf5::Datatype type = testing::two_byte_float(6, 9, 31);
         f.dataset("/layers/005/key", {2, 6, 4}, type.get(), type.get(), nullptr);
       },
       "/layers/005/key", "is a floating-point type of 2 bytes with 6 exponent and 9 mantissa bits"},
      {"opaque_tag", [](FileEditor& f) { opaque_key(f, 2, "NUMPY:<f2"); }, "/layers/005/key",
       "is opaque of 2 bytes tagged 'NUMPY:<f2'"},
      {"opaque_size", [](FileEditor& f) { opaque_key(f, 4, ""); }, "/layers/005/key",
       "is opaque of 4 bytes tagged ''"},
      {"positions_length",
       [](FileEditor& f) {
         f.integers("/positions", {0, 1, 2});
       },
       "/positions", "has 3 elements, expected num_tokens = 6"},
      {"positions_negative",
       [](FileEditor& f) {
         f.integers("/positions", {0, 1, 2, -3, 4, 5});
       },
       "/positions", "element 3 is -3, expected at least 0"},
      {"positions_fraction",
       [](FileEditor& f) {
         f.floats("/positions", {6}, {0.0F, 1.0F, 2.5F, 3.0F, 4.0F, 5.0F});
       },
       "/positions", "element 2 is 2.5, expected an integer"},
      {"positions_rank",
       [](FileEditor& f) {
         f.floats("/positions", {6, 1}, zeros());
       },
       "/positions", "has rank 2, expected 1"},
      {"token_ids_length",
       [](FileEditor& f) {
         f.integers("/token_ids", {0, 1});
       },
       "/token_ids", "has 2 elements, expected num_tokens = 6"},
      {"frequencies_length", [](FileEditor& f) { f.floats("/rope_inv_freq", {3}, zeros()); },
       "/rope_inv_freq", "has 3 elements, expected rotary_dim / 2 = 2"},
      {"frequencies_inf",
       [](FileEditor& f) {
         f.floats("/rope_inv_freq", {2}, {1.0F, std::numeric_limits<float>::infinity()});
       },
       "/rope_inv_freq", "element 1 is inf, expected a finite number"},
      {"query_positions_missing",
       [](FileEditor& f) {
         f.floats("/layers/005/query", {4, 2, 4}, zeros());
         f.floats("/layers/007/query", {4, 2, 4}, zeros());
       },
       "/layers/005/query", "has 2 queries for 6 keys: a dataset query_positions beside it must give"},
      {"query_positions_range",
       [](FileEditor& f) {
         f.integers("/query_positions", {0, 1, 2, 3, 4, 6});
       },
       "/query_positions", "element 5 is 6, expected a position of the keys, 0 to 5"},
      {"query_positions_differ",
       [](FileEditor& f) {
         f.integers("/layers/005/query_positions", {0, 1, 2, 3, 4, 5});
         f.integers("/layers/007/query_positions", {0, 1, 2, 3, 4, 4});
       },
       "/layers/007/query_positions", "differs from /layers/005/query_positions"},
      {"query_positions_unordered_keys",
       [](FileEditor& f) {
         f.integers("/positions", {0, 2, 1, 3, 4, 5});
         f.integers("/query_positions", {0, 1, 2, 3, 4, 5});
       },
       "/query_positions", "cannot be placed among the keys, whose positions do not ascend"},
  };
  return cases;
}

class BadDumps : public ::testing::TestWithParam<std::size_t> {};

TEST_P(BadDumps, AreRefusedInOneLine) {
  const BadCase& bad = bad_cases()[GetParam()];
  const TempPath path(std::string("bad_") + bad.name + ".h5");
  SmallDump().write(path.str());
  {
    FileEditor file(path.str(), FileEditor::Mode::edit);
    bad.spoil(file);
  }
  const std::vector<Problem> problems = validate_dump(path.str());
  ASSERT_FALSE(problems.empty());
  const bool found = std::any_of(problems.begin(), problems.end(), [&](const Problem& problem) {
    return problem.path == bad.path && problem.message.find(bad.message) != std::string::npos;
  });
  EXPECT_TRUE(found) << problems.front().path << ": " << problems.front().message;
  const std::string error = open_error(path.str());
  EXPECT_TRUE(error.starts_with(path.str() + ": " + problems.front().path + ": " + problems.front().message))
      << error;
  EXPECT_EQ(error.find('\n'), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Validator, BadDumps, ::testing::Range<std::size_t>(0, bad_cases().size()),
                         [](const auto& instance) { return std::string(bad_cases()[instance.param].name); });

TEST(Validator, AcceptsTheValidDump) {
  const TempPath path("valid.h5");
  SmallDump().write(path.str());
  EXPECT_TRUE(validate_dump(path.str()).empty());
  for (const char* capture : {"smollm2-jargon-small.h5", "smollm2-python-small.h5"}) {
    EXPECT_TRUE(validate_dump(std::string(ROTORQUANT_SOURCE_DIR "/data/") + capture).empty()) << capture;
  }
}

TEST(Validator, ReportsAllProblemsAtOnce) {
  const TempPath path("many.h5");
  SmallDump().write(path.str());
  {
    FileEditor file(path.str(), FileEditor::Mode::edit);
    file.attribute("causal", std::int64_t{7});
    file.remove("/layers/005/value");
    file.floats("/layers/007/query", {4, 6}, zeros());
    file.poke("/layers/005/key", 0, 1, 2, std::nan(""));
    file.poke("/layers/005/key", 0, 3, 0, std::nan(""));
    file.poke("/layers/005/key", 1, 5, 3, -std::numeric_limits<double>::infinity());
    file.integers("/token_ids", {1});
  }
  std::vector<std::string> lines;
  for (const Problem& problem : validate_dump(path.str()))
    lines.push_back(problem.path + ": " + problem.message);
  const std::vector<std::string> expected = {
      "/: attribute causal is 7, expected 0 or 1",
      "/layers/005/value: dataset is missing",
      "/layers/007/query: has rank 2, expected rank 3: [H, T, D]",
      "/token_ids: has 1 elements, expected num_tokens = 6",
      "/layers/005/key: NaN at layer 5, head 0, token 1, channel 2; every value must be finite in float32 (1 "
      "more in "
      "this head)",
      "/layers/005/key: -Inf at layer 5, head 1, token 5, channel 3; every value must be finite in float32",
  };
  EXPECT_EQ(lines, expected);
  EXPECT_EQ(open_error(path.str()), path.str() +
                                        ": /: attribute causal is 7, expected 0 or 1 (and 3 more; see "
                                        "rotorquant inspect --validate)");
}

TEST(Validator, NonFiniteValuesAreNamedWhenRead) {
  const TempPath path("non_finite.h5");
  SmallDump().write(path.str());
  {
    FileEditor file(path.str(), FileEditor::Mode::edit);
    file.poke("/layers/005/key", 1, 4, 3, std::nan(""));
    file.poke("/layers/007/query", 3, 0, 0, std::numeric_limits<double>::infinity());
    const std::vector<double> doubles(36, 1e39);
    file.dataset("/layers/007/value", {2, 6, 3}, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, doubles.data());
  }
  const Dump dump = Dump::open(path.str());
  const auto error_of = [](const std::function<void()>& read) -> std::string {
    try {
      read();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  const std::string tail = "; every value must be finite in float32";
  EXPECT_EQ(dump.read_key(5, 0), SmallDump::slab('k', 5, 0, 6, 4));
  EXPECT_EQ(error_of([&] { dump.read_key(5, 1); }),
            path.str() + ": /layers/005/key: NaN at layer 5, head 1, token 4, channel 3" + tail);
  EXPECT_EQ(error_of([&] { dump.read_query(7, 3); }),
            path.str() + ": /layers/007/query: Inf at layer 7, head 3, token 0, channel 0" + tail);
  EXPECT_EQ(error_of([&] { dump.read_value(7, 1); }),
            path.str() +
                ": /layers/007/value: Inf (or beyond the range of float32) at layer 7, head 1, token 0, "
                "channel 0" +
                tail);
  // Tokens that are not asked for do not matter.
  EXPECT_EQ(Dump::open(path.str(), {.max_tokens = 4}).read_key(5, 1), SmallDump::slab('k', 5, 1, 4, 4));
}

TEST(Validator, FilesThatAreNoDumps) {
  const TempPath missing("missing.h5");
  EXPECT_EQ(open_error(missing.str()), missing.str() + ": no such file");
  EXPECT_EQ(open_error(::testing::TempDir()),
            ::testing::TempDir() + ": is a directory, expected an HDF5 file");

  const TempPath text("text.h5");
  std::ofstream(text.str()) << "keys and values\n";
  EXPECT_EQ(open_error(text.str()), text.str() + ": not an HDF5 file");
  const TempPath empty("empty.h5");
  std::ofstream(empty.str()).flush();
  EXPECT_EQ(open_error(empty.str()), empty.str() + ": not an HDF5 file");

  const TempPath whole("whole.h5");
  SmallDump().write(whole.str());
  const std::string bytes = testing::file_bytes(whole.str());
  const TempPath truncated("truncated.h5");
  for (const std::size_t kept : {bytes.size() - 1, bytes.size() / 2, std::size_t{100}}) {
    std::ofstream(truncated.str(), std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(kept));
    const std::string error = open_error(truncated.str());
    EXPECT_TRUE(error.starts_with(truncated.str() + ": damaged or truncated HDF5 file"))
        << kept << ": " << error;
    EXPECT_EQ(error.find('\n'), std::string::npos);
    EXPECT_THROW(validate_dump(truncated.str()), Error);
  }
}

// A compressed chunk whose bytes are wrong: the file opens, reading the slab fails by name.
TEST(Validator, DamagedChunkIsNamed) {
  const TempPath path("damaged.h5");
  SmallDump().write(path.str());
  std::vector<float> pattern(2 * 6 * 4);
  std::iota(pattern.begin(), pattern.end(), 1.0F);
  haddr_t at = 0;
  {
    FileEditor file(path.str(), FileEditor::Mode::edit);
    file.dataset("/layers/005/key", {2, 6, 4}, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, pattern.data(), {1, 6, 4});
    const hdf5::Dataset dataset(H5Dopen2(file.id(), "/layers/005/key", H5P_DEFAULT));
    H5Fflush(file.id(), H5F_SCOPE_LOCAL);
    hsize_t size = 0;
    unsigned mask = 0;
    const hsize_t chunk[] = {1, 0, 0};
    ASSERT_GE(H5Dget_chunk_info_by_coord(dataset.get(), chunk, &mask, &at, &size), 0);
  }
  {
    std::fstream file(path.str(), std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(at));
    file.write("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 8);
  }
  const Dump dump = Dump::open(path.str());
  EXPECT_EQ(dump.read_key(5, 0).size(), 24U);
  try {
    dump.read_key(5, 1);
    FAIL() << "a damaged chunk was read";
  } catch (const Error& error) {
    EXPECT_TRUE(
        std::string(error.what()).starts_with(path.str() + ": /layers/005/key: cannot be read: damaged file"))
        << error.what();
  }
  const std::vector<Problem> problems = validate_dump(path.str());
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_EQ(problems[0].path, "/layers/005/key");
}

}  // namespace
}  // namespace rotorquant::evaluation
