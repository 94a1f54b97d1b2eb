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

TEST(PackedAttention, IsThatOfTheDecodedCache) {
  ROTORQUANT_NEEDS_GPU();
  DeviceWorkspace workspace;
  for (const std::string spec :
       {"rotorquant", "rotorquant:rotation=cascade", "turboquant:rotation=hadamard", "turboquant",
        "rotorquant:codec=trellis:scale_offset=1", "rotorquant:codec=trellis:rotation=cascade"}) {
    for (const std::int64_t dim : {64, 128}) {
      for (const int bits : {2, 3, 4}) {
        if (bits == 4 && spec.find("trellis") != std::string::npos) continue;
        const auto key_quantizer = build(spec, bits, dim, 1), value_quantizer = build(spec, bits, dim, 101);
        const auto packed = make_packed_attention(key_quantizer, value_quantizer, 0);
        for (const AttentionSize& size : sizes) {
          SCOPED_TRACE(fmt::format("{}, {} bits, dim {}, {} x {} queries, {} tokens", spec, bits, dim,
                                   size.heads, size.queries_per_head, size.tokens));
          const std::int64_t rows = size.heads * size.capacity, heads = size.heads * size.queries_per_head;
          const CodeBuffer key_codes = encode(*key_quantizer, sharp_keys(rows, dim));
          const CodeBuffer value_codes = encode(*value_quantizer, uneven_values(rows, dim));
          const DeviceCodes device_keys(key_quantizer->layout(), key_codes);
          const DeviceCodes device_values(value_quantizer->layout(), value_codes);
          Matrix queries = normal_matrix(heads, dim, 23);
          const DeviceBytes device_queries(to_elements(queries, ElementType::float32));
          const DeviceBytes out(static_cast<std::size_t>(4 * heads * dim));
          packed->attend(
              nullptr, workspace, size, {reinterpret_cast<const float*>(device_queries.data()), heads, dim},
              device_keys.view(), device_values.view(), {reinterpret_cast<float*>(out.data()), heads, dim});
          const Matrix outputs = from_elements(out.host(), ElementType::float32, heads, dim);
          expect_near(outputs, queries, decode(*key_quantizer, key_codes),
                      decode(*value_quantizer, value_codes), size);
          if (HasFatalFailure()) return;
        }
      }
    }
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

TEST(PackedAttention, RefusesWhatItHasNoKernelFor) {
  ROTORQUANT_NEEDS_GPU();
  EXPECT_THROW(make_packed_attention(build("rotorquant", 5, 128), build("rotorquant", 5, 128), 0), Error);
  EXPECT_THROW(make_packed_attention(build("rotorquant", 3, 96), build("rotorquant", 3, 96), 0), Error);
  EXPECT_THROW(make_packed_attention(build("rotorquant", 3, 128), build("rotorquant", 2, 128), 0), Error);
  const std::string trellis = "rotorquant:codec=trellis";
  EXPECT_THROW(make_packed_attention(build(trellis, 4, 128), build(trellis, 4, 128), 0), Error);
  EXPECT_THROW(make_packed_attention(build(trellis, 3, 128), build(trellis, 2, 128), 0), Error);
  EXPECT_THROW(make_packed_attention(build(trellis, 3, 128), build("rotorquant", 3, 128), 0), Error);
  EXPECT_THROW(make_packed_attention(build(trellis + ":memory=3", 3, 128), build(trellis, 3, 128), 0), Error);
  EXPECT_THROW(make_packed_attention(build("rotorquant:norm=fp32", 3, 128), build("rotorquant", 3, 128), 0),
               Error);
}

}  // namespace
}  // namespace rotorquant::test
