// The reader on files made with the HDF5 C API: contents, element types, attribute types, queries,
// selections.
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <thread>

#include "dump_files.hpp"
#include "evaluation/dump/dump.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

using testing::FileEditor;
using testing::SmallDump;
using testing::TempPath;

TEST(Reader, GivesInfoAndTensors) {
  const TempPath path("contents.h5");
  const SmallDump small;
  small.write(path.str());
  const Dump dump = Dump::open(path.str());
  const DumpInfo& info = dump.info();
  EXPECT_EQ(info.model, "a small model");
  EXPECT_EQ(info.source, "numbers");
  EXPECT_EQ(info.num_layers, 8);
  EXPECT_EQ(info.num_query_heads, 4);
  EXPECT_EQ(info.num_kv_heads, 2);
  EXPECT_EQ(info.head_dim, 4);
  EXPECT_EQ(info.value_dim, 3);
  EXPECT_EQ(info.num_tokens, 6);
  EXPECT_EQ(info.num_queries, 6);
  EXPECT_EQ(info.rope_stage, "post");
  EXPECT_EQ(info.rope_layout, "half");
  EXPECT_EQ(info.rope_theta, 10000.0);
  EXPECT_EQ(info.rotary_dim, 4);
  EXPECT_EQ(info.softmax_scale, 0.5);
  EXPECT_TRUE(info.causal);
  EXPECT_EQ(info.layers, (std::vector<std::int64_t>{5, 7}));
  EXPECT_EQ(info.element_type, "float32");
  EXPECT_FALSE(info.has_positions || info.has_rope_inv_freq || info.has_token_ids);
  for (const std::int64_t layer : small.layers) {
    for (hsize_t head = 0; head < 2; ++head) {
      const auto h = static_cast<std::int64_t>(head);
      EXPECT_EQ(dump.read_key(layer, h), SmallDump::slab('k', layer, head, 6, 4));
      EXPECT_EQ(dump.read_value(layer, h), SmallDump::slab('v', layer, head, 6, 3));
    }
    for (hsize_t head = 0; head < 4; ++head) {
      EXPECT_EQ(dump.read_query(layer, static_cast<std::int64_t>(head)),
                SmallDump::slab('q', layer, head, 6, 4));
    }
  }
  EXPECT_EQ(dump.query_positions(), (std::vector<std::int64_t>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(dump.positions(), (std::vector<std::int64_t>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(dump.rope_inv_freq(), (std::vector<double>{1.0, 0.01}));
  EXPECT_THROW(dump.read_key(6, 0), UsageError);
  EXPECT_THROW(dump.read_key(5, 2), UsageError);
  EXPECT_THROW(dump.read_key(5, -1), UsageError);
}

// Bits of 16-bit values and what they are: normal, subnormal, extreme and signed-zero numbers.
struct Bits {
  std::uint16_t bits;
  double value;
};
const std::vector<Bits> half_bits = {{0x3C00, 1.0},     {0xC000, -2.0},    {0x3555, 0.333251953125},
                                     {0x7BFF, 65504.0}, {0x0001, 0x1p-24}, {0x83FF, -1023 * 0x1p-24},
                                     {0x0400, 0x1p-14}, {0x0000, 0.0}};
const std::vector<Bits> bfloat16_bits = {{0x3F80, 1.0},         {0xC000, -2.0},
                                         {0x3EAB, 0.333984375}, {0x7F7F, 255 * 0x1p120},
                                         {0x0001, 0x1p-133},    {0x807F, -127 * 0x1p-133},
                                         {0x0080, 0x1p-126},    {0x0000, 0.0}};

struct TypeCase {
  const char* name;
  const char* reported;
  hdf5::Datatype (*type)();
  bool is_half;
  bool big_endian = false;
  const char* dtype = nullptr;
};

hdf5::Datatype uint16_type() {
  return hdf5::Datatype(H5Tcopy(H5T_STD_U16LE));
}
hdf5::Datatype plain_opaque() {
  return testing::opaque_type(2, "");
}
hdf5::Datatype numpy_opaque() {
  return testing::opaque_type(2, "NUMPY:<V2");
}

class TwoByteTypes : public ::testing::TestWithParam<TypeCase> {};

TEST_P(TwoByteTypes, ReadExactly) {
  const TypeCase& c = GetParam();
  const std::vector<Bits>& values = c.is_half ? half_bits : bfloat16_bits;
  const TempPath path(std::string("type_") + c.name + ".h5");
  SmallDump small;
  small.write(path.str());
  {
    FileEditor file(path.str(), FileEditor::Mode::edit);
    std::vector<std::uint16_t> bits;
    for (int i = 0; i < 48; ++i) bits.push_back(values[static_cast<std::size_t>(i) % values.size()].bits);
    if (c.big_endian) {
      for (std::uint16_t& word : bits) word = static_cast<std::uint16_t>((word >> 8) | (word << 8));
    }
    const hdf5::Datatype type = c.type();
    if (c.big_endian) H5Tset_order(type.get(), H5T_ORDER_BE);
    // Memory type = file type: HDF5 stores the bits as given.
    file.dataset("/layers/005/key", {2, 6, 4}, type.get(), type.get(), bits.data(), {1, 4, 4});
    if (c.dtype != nullptr) file.attribute("dtype", std::string(c.dtype), "/layers/005/key");
  }
  const Dump dump = Dump::open(path.str());
  EXPECT_EQ(dump.info().element_type, c.reported);
  const std::vector<float> read = dump.read_key(5, 1);
  ASSERT_EQ(read.size(), 24U);
  for (std::size_t i = 0; i < read.size(); ++i) {
    EXPECT_EQ(static_cast<double>(read[i]), values[(i + 24) % values.size()].value) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Reader, TwoByteTypes,
    ::testing::Values(TypeCase{"half", "float16", testing::half_type, true},
                      TypeCase{"half_big_endian", "float16", testing::half_type, true, true},
                      TypeCase{"bfloat16", "bfloat16", testing::bfloat16_type, false},
                      TypeCase{"bfloat16_big_endian", "bfloat16", testing::bfloat16_type, false, true},
                      TypeCase{"opaque", "bfloat16 (opaque)", plain_opaque, false},
                      TypeCase{"opaque_numpy", "bfloat16 (opaque)", numpy_opaque, false},
                      TypeCase{"uint16", "bfloat16 (uint16)", uint16_type, false, false, "bfloat16"},
                      TypeCase{"uint16_big_endian", "bfloat16 (uint16)", uint16_type, false, true,
                               "bfloat16"}),
    [](const auto& instance) { return std::string(instance.param.name); });

TEST(Reader, ReadsWideTypes) {
  const TempPath path("wide.h5");
  SmallDump().write(path.str());
  std::vector<double> doubles(48, 0.25);
  doubles[0] = 1.0 + 0x1p-40;  // rounds to float32
  doubles[1] = -3.0e38;
  {
    FileEditor file(path.str(), FileEditor::Mode::edit);
    file.dataset("/layers/005/key", {2, 6, 4}, H5T_IEEE_F64BE, H5T_NATIVE_DOUBLE, doubles.data());
    const std::vector<float> keys = SmallDump::tensor('k', 7, 2, 6, 4);
    file.dataset("/layers/007/key", {2, 6, 4}, H5T_IEEE_F32BE, H5T_NATIVE_FLOAT, keys.data(), {2, 5, 3});
  }
  const Dump dump = Dump::open(path.str());
  EXPECT_EQ(dump.info().element_type, "float64");
  const std::vector<float> read = dump.read_key(5, 0);
  EXPECT_EQ(read[0], 1.0F);
  EXPECT_EQ(read[1], -3.0e38F);
  EXPECT_EQ(read[2], 0.25F);
  EXPECT_EQ(dump.read_key(7, 1), SmallDump::slab('k', 7, 1, 6, 4));
}

TEST(Reader, TakesAttributesOfAnyType) {
  const TempPath path("attributes.h5");
  SmallDump().write(path.str());
  {
    FileEditor file(path.str(), FileEditor::Mode::edit);
    const double eight = 8.0;
    file.attribute("num_layers", H5T_STD_I8LE, H5T_NATIVE_DOUBLE, &eight);
    const std::int64_t two = 2;
    file.attribute("num_kv_heads", H5T_STD_U64BE, H5T_NATIVE_INT64, &two, {1});
    const double four = 4.0;
    file.attribute("num_query_heads", H5T_IEEE_F32LE, H5T_NATIVE_DOUBLE, &four);
    const std::int64_t one = 1;
    file.attribute("softmax_scale", H5T_STD_I16LE, H5T_NATIVE_INT64, &one);
    file.attribute("head_dim", testing::half_type().get(), H5T_NATIVE_DOUBLE, &four, {1, 1});
    // What h5py makes of a bool.
    const hdf5::Datatype boolean(H5Tenum_create(H5T_NATIVE_INT8));
    const signed char no = 0;
    const signed char yes = 1;
    H5Tenum_insert(boolean.get(), "FALSE", &no);
    H5Tenum_insert(boolean.get(), "TRUE", &yes);
    file.attribute("causal", boolean.get(), boolean.get(), &no);
    const hdf5::Datatype variable(H5Tcopy(H5T_C_S1));
    H5Tset_size(variable.get(), H5T_VARIABLE);
    H5Tset_cset(variable.get(), H5T_CSET_UTF8);
    const char* model = "Modèle";
    file.attribute("model", variable.get(), variable.get(), &model);
    const char* stage = "pre";
    file.attribute("rope_stage", variable.get(), variable.get(), &stage, {1});
    const hdf5::Datatype padded(H5Tcopy(H5T_C_S1));
    H5Tset_size(padded.get(), 16);
    H5Tset_strpad(padded.get(), H5T_STR_SPACEPAD);
    file.attribute("rope_layout", padded.get(), padded.get(), "interleaved     ");
  }
  const Dump dump = Dump::open(path.str());
  EXPECT_EQ(dump.info().num_layers, 8);
  EXPECT_EQ(dump.info().num_kv_heads, 2);
  EXPECT_EQ(dump.info().num_query_heads, 4);
  EXPECT_EQ(dump.info().head_dim, 4);
  EXPECT_EQ(dump.info().softmax_scale, 1.0);
  EXPECT_FALSE(dump.info().causal);
  EXPECT_EQ(dump.info().model, "Modèle");
  EXPECT_EQ(dump.info().rope_stage, "pre");
  EXPECT_EQ(dump.info().rope_layout, "interleaved");
}

TEST(Reader, QueriesAtGivenPositions) {
  const TempPath path("positions.h5");
  SmallDump small;
  small.queries = 3;
  small.write(path.str());
  {
    FileEditor file(path.str(), FileEditor::Mode::edit);
    // Positions need not begin at 0, and queries need not come in order.
    file.integers("/positions", {10, 11, 12, 13, 14, 15});
    for (const char* layer : {"/layers/005", "/layers/007"}) {
      file.integers(std::string(layer) + "/query_positions", {15, 10, 12});
    }
    file.integers("/token_ids", {3, 1, 4, 1, 5, 9});
  }
  const Dump all = Dump::open(path.str());
  EXPECT_EQ(all.positions(), (std::vector<std::int64_t>{10, 11, 12, 13, 14, 15}));
  EXPECT_EQ(all.query_positions(), (std::vector<std::int64_t>{5, 0, 2}));
  EXPECT_EQ(all.token_ids(), (std::vector<std::int64_t>{3, 1, 4, 1, 5, 9}));

  // Three tokens keep the second and third query.
  const Dump some = Dump::open(path.str(), {.max_tokens = 3});
  EXPECT_EQ(some.info().num_tokens, 3);
  EXPECT_EQ(some.info().num_queries, 2);
  EXPECT_EQ(some.query_positions(), (std::vector<std::int64_t>{0, 2}));
  EXPECT_EQ(some.positions(), (std::vector<std::int64_t>{10, 11, 12}));
  EXPECT_EQ(some.token_ids(), (std::vector<std::int64_t>{3, 1, 4}));
  EXPECT_EQ(some.read_key(5, 1), SmallDump::slab('k', 5, 1, 3, 4));
  std::vector<float> last_two = SmallDump::slab('q', 7, 3, 3, 4);
  last_two.erase(last_two.begin(), last_two.begin() + 4);
  EXPECT_EQ(some.read_query(7, 3), last_two);
}

TEST(Reader, MaxTokensBeforeEveryQueryLeavesNone) {
  const TempPath path("late_queries.h5");
  SmallDump small;
  small.queries = 2;
  small.write(path.str());
  FileEditor(path.str(), FileEditor::Mode::edit).integers("/query_positions", {4, 5});
  const Dump dump = Dump::open(path.str(), {.max_tokens = 4});
  EXPECT_EQ(dump.info().num_queries, 0);
  EXPECT_EQ(dump.info().no_queries_reason, "the dump has no query among its first 4 tokens");
  EXPECT_THROW(dump.read_query(5, 0), UsageError);
  EXPECT_THROW(Dump::open(path.str(), {.max_tokens = 0}), UsageError);
  EXPECT_EQ(Dump::open(path.str(), {.max_tokens = 100}).info().num_tokens, 6);
}

TEST(Reader, QueriesAreOptional) {
  const TempPath path("no_queries.h5");
  SmallDump().write(path.str());
  {
    FileEditor file(path.str(), FileEditor::Mode::edit);
    file.remove("/layers/005/query");
    file.remove("/layers/007/query");
  }
  const Dump dump = Dump::open(path.str());
  EXPECT_EQ(dump.info().num_queries, 0);
  EXPECT_EQ(dump.info().num_query_heads, 4);
  EXPECT_EQ(dump.info().no_queries_reason, "the dump has no queries");
  EXPECT_TRUE(dump.query_positions().empty());
}

TEST(Reader, OptionsReplaceAttributes) {
  const TempPath path("options.h5");
  SmallDump().write(path.str());
  const Dump dump = Dump::open(path.str(), {.softmax_scale = 0.125, .causal = false});
  EXPECT_EQ(dump.info().softmax_scale, 0.125);
  EXPECT_FALSE(dump.info().causal);
}

// Sizes at which shapes degenerate.
TEST(Reader, ExtremeSizesAreValid) {
  for (const hsize_t head_dim : {1U, 2U, 5U, 257U}) {
    for (const hsize_t tokens : {1U, 6U}) {
      const TempPath path("sizes.h5");
      SmallDump small;
      small.head_dim = head_dim;
      small.tokens = small.queries = tokens;
      small.write(path.str());
      {
        FileEditor file(path.str(), FileEditor::Mode::edit);
        file.attribute("rope_stage", std::string("none"));
        for (const char* absent : {"rope_theta", "rope_layout", "rotary_dim"}) file.remove_attribute(absent);
        // Zero vectors are vectors.
        file.floats("/layers/005/value", {2, tokens, 3}, std::vector<float>(2 * tokens * 3, 0.0F));
      }
      const Dump dump = Dump::open(path.str());
      EXPECT_EQ(dump.read_key(7, 1), SmallDump::slab('k', 7, 1, tokens, head_dim));
      EXPECT_EQ(dump.read_value(5, 1), std::vector<float>(tokens * 3, 0.0F));
      EXPECT_TRUE(dump.rope_inv_freq().empty());
    }
  }
}

TEST(Reader, AnyThreadMayRead) {
  const TempPath path("threads.h5");
  SmallDump().write(path.str());
  const Dump dump = Dump::open(path.str());
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const std::int64_t layer = i % 2 == 0 ? 5 : 7;
        if (dump.read_key(layer, 1) != SmallDump::slab('k', layer, 1, 6, 4)) ++wrong[t];
        if (dump.read_query(layer, 3) != SmallDump::slab('q', layer, 3, 6, 4)) ++wrong[t];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, (std::vector<int>(4, 0)));
}

// Numbers read from the capture with h5py.
TEST(Reader, BundledCapture) {
  const Dump dump = Dump::open(ROTORQUANT_SOURCE_DIR "/data/smollm2-python-small.h5");
  EXPECT_EQ(dump.sha256(), "9a221ca70f36b2f0a66d50901e751ef2c360429ce59ea7e427dd49a9d44c4eaf");
  EXPECT_EQ(dump.info().model, "SmolLM2-135M-Instruct (Q4_1 weights, dequantized)");
  EXPECT_EQ(dump.info().layers, (std::vector<std::int64_t>{5, 17, 29}));
  EXPECT_EQ(dump.info().num_tokens, 512);
  EXPECT_EQ(dump.info().element_type, "float16");
  EXPECT_EQ(dump.rope_inv_freq().size(), 32U);
  EXPECT_EQ(dump.read_key(17, 2)[100 * 64 + 7], 0.1956787109375F);
  EXPECT_EQ(dump.read_value(29, 0)[511 * 64 + 63], 1.1474609375F);
  EXPECT_EQ(dump.read_query(5, 8)[1 * 64 + 2], -0.95458984375F);
}

}  // namespace
}  // namespace rotorquant::evaluation
