// Attention over codes on the GPU against float64 attention over the decoded keys and values.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "rotorquant/core/error.hpp"
#include "rotorquant/device/attention_reference.hpp"

namespace rotorquant::test {
namespace {

constexpr AttentionSize sizes[] = {{1, 1, 1, 8, 0.1F},       {1, 8, 33, 40, 0.1F},
                                   {3, 4, 500, 512, 0.09F},  {2, 8, 4096, 4096, 0.2F},
                                   {5, 3, 1000, 1024, 0.5F}, {1, 2, 7, 64, 0.1F}};

// Attention by the pair's kernel over rows that the two quantizers code.
void expect_attention(const std::shared_ptr<const Quantizer>& keys,
                      const std::shared_ptr<const Quantizer>& values, const AttentionSize& size,
                      DeviceWorkspace& workspace) {
  SCOPED_TRACE(fmt::format("{} x {} queries, {} of {} tokens, dim {}", size.heads, size.queries_per_head,
                           size.tokens, size.capacity, keys->dim()));
  const std::int64_t dim = keys->dim();
  const std::int64_t rows = size.heads * size.capacity, heads = size.heads * size.queries_per_head;
  const CodeBuffer key_codes = encode(*keys, sharp_keys(rows, dim));
  const CodeBuffer value_codes = encode(*values, uneven_values(rows, dim));
  const DeviceCodes device_keys(keys->layout(), key_codes);
  const DeviceCodes device_values(values->layout(), value_codes);
  Matrix queries = normal_matrix(heads, dim, 23);
  const DeviceBytes device_queries(to_elements(queries, ElementType::float32));
  const DeviceBytes out(static_cast<std::size_t>(4 * heads * dim));
  make_packed_attention(keys, values, 0)
      ->attend(nullptr, workspace, size, {reinterpret_cast<const float*>(device_queries.data()), heads, dim},
               device_keys.view(), device_values.view(), {reinterpret_cast<float*>(out.data()), heads, dim});
  const Matrix outputs = from_elements(out.host(), ElementType::float32, heads, dim);
  expect_near(outputs, queries, decode(*keys, key_codes), decode(*values, value_codes), size);
}

TEST(PackedAttention, IsThatOfTheDecodedCache) {
  ROTORQUANT_NEEDS_GPU();
  DeviceWorkspace workspace;
  for (const std::string spec :
       {"rotorquant", "rotorquant:rotation=cascade", "turboquant:rotation=hadamard", "turboquant",
        "rotorquant:codec=trellis:scale_offset=1", "rotorquant:codec=trellis:rotation=cascade"}) {
    for (const std::int64_t dim : {64, 128}) {
      for (const int bits : {2, 3, 4}) {
        SCOPED_TRACE(fmt::format("{}, {} bits", spec, bits));
        for (const AttentionSize& size : sizes) {
          expect_attention(build(spec, bits, dim, 1), build(spec, bits, dim, 101), size, workspace);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

// Keys and values of different widths, and keys in two stages.
TEST(PackedAttention, TakesWidthsOfKeysAndValuesByThemselves) {
  ROTORQUANT_NEEDS_GPU();
  DeviceWorkspace workspace;
  for (const std::string keys : {"rotorquant", "turboquant-prod", "rotorquant-prod:rotation=cascade"}) {
    for (const std::int64_t dim : {64, 128}) {
      for (const int key_bits : {2, 3, 4}) {
        for (const int value_bits : {2, 3, 4}) {
          SCOPED_TRACE(fmt::format("{} of {} bits, values of {}", keys, key_bits, value_bits));
          for (const AttentionSize& size : sizes) {
            expect_attention(build(keys, key_bits, dim, 1), build("rotorquant", value_bits, dim, 101), size,
                             workspace);
            if (HasFatalFailure()) return;
          }
        }
      }
    }
  }
}

// Widths, dimensions, memories and pairs without a kernel from codes.
TEST(PackedAttention, IsThatOfTheDecodedCacheForEveryOtherPair) {
  ROTORQUANT_NEEDS_GPU();
  DeviceWorkspace workspace;
  struct Side {
    std::string spec;
    int bits;
  };
  const std::string trellis = "rotorquant:codec=trellis";
  const std::pair<Side, Side> pairs[] = {{{"rotorquant", 5}, {"rotorquant", 2}},
                                         {{"rotorquant-prod", 5}, {"turboquant-prod", 3}},
                                         {{"turboquant-prod:qjl_dim=72", 3}, {"rotorquant", 3}},
                                         {{"rotorquant", 1}, {"turboquant", 8}},
                                         {{"turboquant:norm=fp32", 5}, {"planarquant", 4}},
                                         {{trellis, 3}, {"rotorquant", 3}},
                                         {{trellis, 2}, {trellis, 3}},
                                         {{trellis + ":memory=3", 3}, {trellis, 4}}};
  for (const auto& [key, value] : pairs) {
    for (const std::int64_t dim : {1, 7, 31, 32, 33, 64, 80, 96, 128, 130, 256, 257, 512}) {
      SCOPED_TRACE(fmt::format("{} of {} bits, {} of {}", key.spec, key.bits, value.spec, value.bits));
      for (const AttentionSize& size : {AttentionSize{1, 1, 1, 8, 0.1F}, AttentionSize{3, 4, 501, 520, 0.09F},
                                        AttentionSize{2, 8, 33, 40, 0.1F}}) {
        expect_attention(build(key.spec, key.bits, dim, 1), build(value.spec, value.bits, dim, 101), size,
                         workspace);
        if (HasFatalFailure()) return;
      }
    }
  }
}

// Heads in parts, several heads a part, and heads that begin between aligned rows.
TEST(PackedAttention, DecodesLargeCachesPartByPart) {
  ROTORQUANT_NEEDS_GPU();
  DeviceWorkspace workspace;
  for (const auto& [dim, size] : {std::pair<std::int64_t, AttentionSize>{512, {2, 2, 20001, 20008, 0.05F}},
                                  std::pair<std::int64_t, AttentionSize>{257, {3, 1, 20001, 20008, 0.05F}},
                                  std::pair<std::int64_t, AttentionSize>{200, {50, 3, 1003, 1032, 0.05F}}}) {
    expect_attention(build("planarquant", 2, dim, 1), build("planarquant", 3, dim, 101), size, workspace);
    if (HasFatalFailure()) return;
  }
}

TEST(PackedAttention, TheHalfPrecisionBaselineIsAttention) {
  ROTORQUANT_NEEDS_GPU();
  DeviceWorkspace workspace;
  for (const std::int64_t dim : {64, 128}) {
    for (const AttentionSize& size : sizes) {
      const std::int64_t rows = size.heads * size.capacity, heads = size.heads * size.queries_per_head;
      Matrix keys = sharp_keys(rows, dim), values = uneven_values(rows, dim),
             queries = normal_matrix(heads, dim, 23);
      const DeviceBytes device_keys(to_elements(keys, ElementType::float16));
      const DeviceBytes device_values(to_elements(values, ElementType::float16));
      const DeviceBytes device_queries(to_elements(queries, ElementType::float32));
      const DeviceBytes out(static_cast<std::size_t>(4 * heads * dim));
      attend_half(nullptr, workspace, size,
                  {reinterpret_cast<const float*>(device_queries.data()), heads, dim}, device_keys.data(),
                  device_values.data(), {reinterpret_cast<float*>(out.data()), heads, dim});
      expect_near(from_elements(out.host(), ElementType::float32, heads, dim), queries, keys, values, size);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(PackedAttention, RefusesWhatItCannotDecode) {
  ROTORQUANT_NEEDS_GPU();
  EXPECT_THROW(make_packed_attention(build("rotorquant", 3, 96), build("rotorquant", 3, 128), 0), Error);
  EXPECT_THROW(make_packed_attention(build("kivi", 2, 128), build("rotorquant", 2, 128), 0), Error);
}

}  // namespace
}  // namespace rotorquant::test
