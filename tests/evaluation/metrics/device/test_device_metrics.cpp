// Metrics on a GPU: every one of them to the bits of the CPU's.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <thread>
#include <tuple>
#include <vector>

#include "evaluation/metrics/device/device_metrics.hpp"
#include "evaluation/metrics/metric_registry.hpp"
#include "evaluation/metrics/random_head.hpp"
#include "rotorquant/core/device.hpp"

namespace rotorquant::evaluation {
namespace {

using testing::HeadShape;
using testing::RandomHead;

class OnGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (available_gpus().empty()) GTEST_SKIP() << "no GPU";
  }
};

SeenTensor seen(HostView<const float> x) {
  return {x, {}, {}};
}

std::vector<double> on_cpu(const RoundedReference& reference, const RandomHead& head) {
  RoundedWorkspace workspace;
  return evaluate_cell(reference, seen(head.key_estimate()), seen(head.value_estimate()), workspace);
}

void expect_same_bits(const std::vector<double>& gpu, const std::vector<double>& cpu,
                      const std::string& where) {
  ASSERT_EQ(gpu.size(), cpu.size());
  for (std::size_t i = 0; i < cpu.size(); ++i) {
    if (std::isnan(cpu[i]) && std::isnan(gpu[i])) continue;
    EXPECT_EQ(std::bit_cast<std::uint64_t>(gpu[i]), std::bit_cast<std::uint64_t>(cpu[i]))
        << where << ": " << metric_registry()[i].tag << " " << gpu[i] << " " << cpu[i];
  }
}

class DeviceMetricsOf : public OnGpu,
                        public ::testing::WithParamInterface<std::tuple<std::int64_t, HeadShape, double>> {};

TEST_P(DeviceMetricsOf, AreThoseOfTheCpu) {
  const auto& [min_context, shape, noise] = GetParam();
  const DeviceMetrics metrics(available_gpus().front().index);
  for (const bool causal : {true, false}) {
    RandomHead head(shape, 11, noise);
    head.tensors.causal = causal;
    head.tensors.min_context = min_context;
    if (causal) head.tensors.softmax_scale *= 8.0;  // nearly one-hot attention
    const RoundedReference reference(head.tensors);
    const auto on_gpu = metrics.upload(reference);
    ASSERT_NE(on_gpu, nullptr);
    const auto gpu = metrics.evaluate(*on_gpu, seen(head.key_estimate()), seen(head.value_estimate()));
    ASSERT_TRUE(gpu.has_value()) << causal;
    expect_same_bits(*gpu, on_cpu(reference, head), causal ? "causal" : "not causal");
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, DeviceMetricsOf,
    ::testing::Combine(::testing::Values<std::int64_t>(0),
                       ::testing::Values(HeadShape{1, 1, 1, 1, 1}, HeadShape{128, 64, 64, 2, 128},
                                         HeadShape{512, 64, 64, 3, 512}, HeadShape{5, 3, 2, 2, 5},
                                         HeadShape{40, 64, 64, 1, 40}, HeadShape{129, 80, 80, 3, 129},
                                         HeadShape{300, 127, 33, 2, 300}, HeadShape{517, 128, 128, 3, 200},
                                         HeadShape{257, 130, 64, 4, 257}, HeadShape{1100, 257, 96, 1, 64}),
                       ::testing::Values(0.0, 0.02, 0.3)));
INSTANTIATE_TEST_SUITE_P(Context, DeviceMetricsOf,
                         ::testing::Combine(::testing::Values<std::int64_t>(64),
                                            ::testing::Values(HeadShape{200, 64, 64, 2, 200}),
                                            ::testing::Values(0.2)));

class DeviceMetricsTest : public OnGpu {};

TEST_F(DeviceMetricsTest, RowsThatAreNotKeptAreComputedForTheUpload) {
  const DeviceMetrics metrics(available_gpus().front().index);
  RandomHead head({150, 64, 64, 2, 150}, 3);
  const RoundedReference reference(head.tensors, 0);
  ASSERT_FALSE(reference.keeps_rows());
  const auto on_gpu = metrics.upload(reference);
  const auto gpu = metrics.evaluate(*on_gpu, seen(head.key_estimate()), seen(head.value_estimate()));
  ASSERT_TRUE(gpu.has_value());
  expect_same_bits(*gpu, on_cpu(reference, head), "rows computed again");
}

TEST_F(DeviceMetricsTest, ThreadsShareAHead) {
  const DeviceMetrics metrics(available_gpus().front().index);
  const HeadShape shape{200, 64, 64, 3, 200};
  RandomHead head(shape, 5);
  const RoundedReference reference(head.tensors);
  const auto on_gpu = metrics.upload(reference);
  const std::vector<double> cpu = on_cpu(reference, head);
  std::vector<std::vector<double>> found(12);
  std::vector<std::thread> threads;
  for (std::vector<double>& out : found) {
    threads.emplace_back(
        [&] { out = *metrics.evaluate(*on_gpu, seen(head.key_estimate()), seen(head.value_estimate())); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::vector<double>& out : found) expect_same_bits(out, cpu, "a thread");
}

TEST_F(DeviceMetricsTest, HoldWhereFloat32ExponentialsDoNot) {
  const DeviceMetrics metrics(available_gpus().front().index);
  for (const double noise : {3.0, 40.0, 3000.0}) {
    RandomHead head({200, 64, 64, 2, 200}, 7, noise);
    const RoundedReference reference(head.tensors);
    const auto on_gpu = metrics.upload(reference);
    const auto gpu = metrics.evaluate(*on_gpu, seen(head.key_estimate()), seen(head.value_estimate()));
    ASSERT_TRUE(gpu.has_value());
    expect_same_bits(*gpu, on_cpu(reference, head), "large changes");
  }
}

TEST_F(DeviceMetricsTest, LeaveWindowsAndNonsenseToTheCpu) {
  const DeviceMetrics metrics(available_gpus().front().index);
  RandomHead head({64, 64, 64, 1, 64}, 7);
  const RoundedReference reference(head.tensors);
  const auto on_gpu = metrics.upload(reference);
  SeenTensor window = seen(head.key_estimate());
  window.recent = head.tensors.keys;
  window.coded_end.assign(65, 0);
  EXPECT_FALSE(metrics.evaluate(*on_gpu, window, seen(head.value_estimate())).has_value());
  head.key_hat[100] = std::nanf("");
  EXPECT_FALSE(metrics.evaluate(*on_gpu, seen(head.key_estimate()), seen(head.value_estimate())).has_value());
}

TEST_F(DeviceMetricsTest, WithoutQueriesThereIsNothingToUpload) {
  const DeviceMetrics metrics(available_gpus().front().index);
  RandomHead head({20, 8, 8, 0, 0}, 1);
  const RoundedReference reference(head.tensors);
  EXPECT_EQ(metrics.upload(reference), nullptr);
}

}  // namespace
}  // namespace rotorquant::evaluation
