// What the writer writes the reader reads, and nothing appears under the final name before it is complete.
#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>

#include "dump_files.hpp"
#include "evaluation/dump/sha256.hpp"
#include "evaluation/dump/validator.hpp"
#include "evaluation/dump/writer.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

using testing::SmallDump;
using testing::TempPath;

constexpr std::int64_t tokens = 6;
constexpr std::int64_t queries = 2;
constexpr std::int64_t head_dim = 4;
constexpr std::int64_t value_dim = 3;

DumpInfo small_info() {
  DumpInfo info;
  info.model = "a model";
  info.source = "";
  info.num_layers = 120;
  info.num_query_heads = 4;
  info.num_kv_heads = 2;
  info.head_dim = head_dim;
  info.value_dim = value_dim;
  info.num_tokens = tokens;
  info.num_queries = queries;
  info.rope_stage = "pre";
  info.rope_layout = "interleaved";
  info.rope_theta = 500000.0;
  info.rotary_dim = 2;
  info.softmax_scale = 0.3;
  info.causal = false;
  info.layers = {3, 117};
  return info;
}

HostView<const float> view(const std::vector<float>& rows, std::int64_t cols) {
  return {rows.data(), static_cast<std::int64_t>(rows.size()) / cols, cols};
}

void write_tensors(DumpWriter& writer) {
  for (const std::int64_t layer : {3, 117}) {
    for (std::int64_t head = 0; head < 4; ++head) {
      const auto h = static_cast<hsize_t>(head);
      writer.write_query(layer, head, view(SmallDump::slab('q', layer, h, queries, head_dim), head_dim));
      if (head >= 2) continue;
      writer.write_key(layer, head, view(SmallDump::slab('k', layer, h, tokens, head_dim), head_dim));
      writer.write_value(layer, head, view(SmallDump::slab('v', layer, h, tokens, value_dim), value_dim));
    }
  }
}

void write_vectors(DumpWriter& writer) {
  writer.write_positions(std::vector<std::int64_t>{7, 8, 9, 10, 11, 12});
  writer.write_query_positions(std::vector<std::int64_t>{8, 12});
  writer.write_token_ids(std::vector<std::int64_t>{1, 2, 3, 4, 5, 1'000'000});
  writer.write_rope_inv_freq(std::vector<double>{0.7});
}

void write_small(const std::string& path, ElementType type) {
  DumpWriter writer(path, small_info(), type);
  write_tensors(writer);
  write_vectors(writer);
  writer.finish();
}

class WriterTypes : public ::testing::TestWithParam<ElementType> {};

TEST_P(WriterTypes, RoundTrip) {
  const ElementType type = GetParam();
  const TempPath path("round_trip_" + element_type_name(type) + ".h5");
  write_small(path.str(), type);
  EXPECT_TRUE(validate_dump(path.str()).empty());
  EXPECT_FALSE(std::filesystem::exists(path.str() + ".partial"));
  const Dump dump = Dump::open(path.str());
  const DumpInfo expected = small_info();
  const DumpInfo& info = dump.info();
  EXPECT_EQ(info.model, expected.model);
  EXPECT_EQ(info.source, expected.source);
  EXPECT_EQ(info.num_layers, expected.num_layers);
  EXPECT_EQ(info.num_query_heads, expected.num_query_heads);
  EXPECT_EQ(info.num_kv_heads, expected.num_kv_heads);
  EXPECT_EQ(info.rope_stage, expected.rope_stage);
  EXPECT_EQ(info.rope_layout, expected.rope_layout);
  EXPECT_EQ(info.rope_theta, expected.rope_theta);
  EXPECT_EQ(info.rotary_dim, expected.rotary_dim);
  EXPECT_EQ(info.softmax_scale, expected.softmax_scale);
  EXPECT_EQ(info.causal, expected.causal);
  EXPECT_EQ(info.layers, expected.layers);
  EXPECT_EQ(info.element_type, element_type_name(type));
  EXPECT_EQ(dump.positions(), (std::vector<std::int64_t>{7, 8, 9, 10, 11, 12}));
  EXPECT_EQ(dump.query_positions(), (std::vector<std::int64_t>{1, 5}));
  EXPECT_EQ(dump.token_ids(), (std::vector<std::int64_t>{1, 2, 3, 4, 5, 1'000'000}));
  EXPECT_EQ(dump.rope_inv_freq(), std::vector<double>{0.7});
  const auto stored = [&](std::vector<float> slab) {
    for (float& value : slab) value = rounded(type, value);
    return slab;
  };
  for (const std::int64_t layer : {3, 117}) {
    for (std::int64_t head = 0; head < 4; ++head) {
      const auto h = static_cast<hsize_t>(head);
      EXPECT_EQ(dump.read_query(layer, head), stored(SmallDump::slab('q', layer, h, queries, head_dim)));
      if (head >= 2) continue;
      EXPECT_EQ(dump.read_key(layer, head), stored(SmallDump::slab('k', layer, h, tokens, head_dim)));
      EXPECT_EQ(dump.read_value(layer, head), stored(SmallDump::slab('v', layer, h, tokens, value_dim)));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Writer, WriterTypes,
                         ::testing::Values(ElementType::float16, ElementType::float32, ElementType::bfloat16),
                         [](const auto& instance) { return element_type_name(instance.param); });

TEST(Writer, SameCallsGiveTheSameBytes) {
  const TempPath first("bytes_first.h5");
  const TempPath second("bytes_second.h5");
  write_small(first.str(), ElementType::float16);
  write_small(second.str(), ElementType::float16);
  EXPECT_EQ(testing::file_bytes(first.str()), testing::file_bytes(second.str()));
}

TEST(Writer, SplitsLongHeadsIntoChunks) {
  const TempPath path("chunks.h5");
  DumpInfo info = small_info();
  info.num_kv_heads = info.num_query_heads = 1;
  info.num_queries = 0;
  info.layers = {0};
  info.num_tokens = 70'000;  // 4 channels of 4 bytes: more than one chunk of 1 MiB
  std::vector<float> keys(4 * 70'000);
  for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = static_cast<float>(i % 9973);
  const std::vector<float> values(3 * 70'000, 1.0F);
  DumpWriter writer(path.str(), info, ElementType::float32);
  writer.write_key(0, 0, view(keys, 4));
  writer.write_value(0, 0, view(values, 3));
  writer.finish();
  EXPECT_EQ(Dump::open(path.str()).read_key(0, 0), keys);
  EXPECT_LT(std::filesystem::file_size(path.str()), 4U * keys.size() / 2);
}

TEST(Writer, NothingAppearsBeforeFinish) {
  const TempPath path("unfinished.h5");
  std::ofstream(path.str()) << "an older file";
  {
    DumpWriter writer(path.str(), small_info(), ElementType::float16);
    EXPECT_TRUE(std::filesystem::exists(path.str() + ".partial"));
    EXPECT_THROW(writer.finish(), Error);  // heads are missing
    write_tensors(writer);
    EXPECT_THROW(writer.finish(), Error);  // query_positions are missing
    EXPECT_EQ(testing::file_bytes(path.str()), "an older file");
  }
  EXPECT_FALSE(std::filesystem::exists(path.str() + ".partial"));
  EXPECT_EQ(testing::file_bytes(path.str()), "an older file");
  write_small(path.str(), ElementType::float16);
  EXPECT_EQ(Dump::open(path.str()).info().num_layers, 120);
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Writer, RefusesWhatItCannotStore) {
  const TempPath path("refused.h5");
  std::vector<float> keys = SmallDump::slab('k', 3, 0, tokens, head_dim);
  keys[9] = 70'000.0F;
  {
    DumpWriter half(path.str(), small_info(), ElementType::float16);
    EXPECT_EQ(
        error_of([&] { half.write_key(3, 1, view(keys, head_dim)); }),
        path.str() + ": /layers/003/key: 70000 at layer 3, head 1, token 2, channel 1 has no finite float16");
    keys[9] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_THROW(half.write_key(3, 1, view(keys, head_dim)), Error);
    EXPECT_THROW(half.write_key(3, 2, view(keys, head_dim)), Error);   // no such head
    EXPECT_THROW(half.write_key(4, 0, view(keys, head_dim)), Error);   // no such layer
    EXPECT_THROW(half.write_key(3, 0, view(keys, value_dim)), Error);  // wrong shape
    EXPECT_THROW(half.write_positions(std::vector<std::int64_t>{1}), Error);
  }
  DumpInfo info = small_info();
  info.num_kv_heads = 3;
  EXPECT_EQ(error_of([&] { DumpWriter(path.str(), info, ElementType::float32); }),
            path.str() + ": num_query_heads = 4 is not a multiple of num_kv_heads = 3");
  EXPECT_THROW(DumpWriter(path.str(), small_info(), ElementType::bfloat16_opaque), UsageError);
  EXPECT_EQ(error_of([&] { DumpWriter("/no/such/folder/x.h5", small_info(), ElementType::float32); }),
            "/no/such/folder/x.h5: cannot be written; valid: a file in a folder that is writable");
  EXPECT_FALSE(std::filesystem::exists(path.str() + ".partial"));
}

// Digests of FIPS 180-4's examples.
TEST(Sha256, KnownDigests) {
  const TempPath path("digest");
  std::ofstream(path.str(), std::ios::binary) << "abc";
  EXPECT_EQ(file_sha256(path.str()), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  std::ofstream(path.str(), std::ios::binary) << std::string(1'000'000, 'a');
  EXPECT_EQ(file_sha256(path.str()), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  std::ofstream(path.str(), std::ios::binary).flush();
  EXPECT_EQ(file_sha256(path.str()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_THROW(file_sha256(path.str() + ".missing"), Error);
}

}  // namespace
}  // namespace rotorquant::evaluation
