#include <gtest/gtest.h>

#include <algorithm>

#include "evaluation/bench/cpu_operations.hpp"
#include "evaluation/bench/tuned_dense.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/rotations/dense.hpp"

namespace rotorquant::evaluation {
namespace {

CpuBenchRequest request(std::vector<std::string> quantizers, std::int64_t dim, rotorquant::ElementType type) {
  BenchShape shape;
  shape.dim = dim;
  shape.vectors = 200;
  shape.type = type;
  shape.threads = 2;
  return {cpu_operation_names(), std::move(quantizers), shape, {}};
}

TEST(CpuOperations, EveryCheckPassesOnEveryType) {
  for (const auto type : {rotorquant::ElementType::float16, rotorquant::ElementType::bfloat16,
                          rotorquant::ElementType::float32}) {
    for (const std::int64_t dim : {7, 64, 128}) {
      std::vector<SkippedOperation> skipped;
      const BenchGroup group =
          cpu_group(request({"rotorquant", "rotorquant-prod", "turboquant:rotation=hadamard",
                             "isoquant:codec=trellis", "dense-gemm", "uncompressed"},
                            dim, type),
                    skipped);
      EXPECT_TRUE(skipped.empty());
      ASSERT_EQ(group.operations.size(), 2U + 5U * 5U + 3U);
      for (const BenchOperation& operation : group.operations) {
        EXPECT_NO_THROW(operation.check()) << operation.name << " " << operation.quantizer << " " << dim;
        EXPECT_GT(operation.time(2), 0.0);
        EXPECT_GT(operation.bytes(), 0);
      }
    }
  }
}

TEST(CpuOperations, BytesAreThoseOfNumbersAndCodes) {
  std::vector<SkippedOperation> skipped;
  const BenchGroup group = cpu_group(request({"rotorquant"}, 128, rotorquant::ElementType::float16), skipped);
  const auto named = [&](const std::string& name) {
    return *std::find_if(group.operations.begin(), group.operations.end(),
                         [&](const BenchOperation& operation) { return operation.name == name; });
  };
  EXPECT_EQ(named("encode").bytes_read, 200 * 256);
  EXPECT_EQ(named("encode").bytes_written, 200 * (48 + 2));
  EXPECT_EQ(named("decode").bytes_read, 200 * (48 + 2));
  EXPECT_EQ(named("decode").bytes_written, 200 * 256);
  EXPECT_EQ(named("score").bytes_written, 200 * 4);
  EXPECT_EQ(named("attend").bytes_read, 2 * 200 * (48 + 2));
  EXPECT_EQ(named("copy").bytes_read, named("copy").bytes_written);
}

TEST(CpuOperations, WhatCannotBeBuiltIsSaid) {
  std::vector<SkippedOperation> skipped;
  CpuBenchRequest asked = request({"rotorquant-prod"}, 16, rotorquant::ElementType::float32);
  asked.shape.bits = 1;
  EXPECT_EQ(cpu_group(asked, skipped).operations.size(), 2U);
  ASSERT_EQ(skipped.size(), 1U);
  EXPECT_EQ(skipped[0].what, "rotorquant-prod at 1 bits");
  asked.operations = {"encod"};
  EXPECT_THROW(cpu_group(asked, skipped), UsageError);
}

TEST(CpuOperations, Sizes) {
  EXPECT_EQ(vectors_of_size("l2", 128, rotorquant::ElementType::float16, 2), 4096);
  EXPECT_EQ(vectors_of_size("dram", 128, rotorquant::ElementType::float32, 2), 262144);
  EXPECT_EQ(vectors_of_size("17", 128, rotorquant::ElementType::float16, 1), 17);
  for (const char* size : {"", "l3", "0", "-1", "5x"})
    EXPECT_THROW(vectors_of_size(size, 128, rotorquant::ElementType::float16, 1), UsageError) << size;
}

TEST(CpuOperations, TheTunedDenseRotationIsTheHaarRotation) {
  constexpr std::int64_t dim = 33;
  const TunedDenseRotation tuned(dim, 5);
  const DenseRotation plain = DenseRotation::haar(dim, 5);
  for (const std::int64_t rows :
       {3, 41}) {  // of products, tiles of every size, and rows beyond the first block
    std::vector<float> x(static_cast<std::size_t>(rows * dim)), a(x.size()), b(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 7) - 3.0F;
    tuned.apply({x.data(), rows, dim}, {a.data(), rows, dim});
    plain.apply({x.data(), rows, dim}, {b.data(), rows, dim});
    for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-5);
    tuned.apply_transpose({a.data(), rows, dim}, {b.data(), rows, dim});
    for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(b[i], x[i], 1e-5);
  }
}

}  // namespace
}  // namespace rotorquant::evaluation
