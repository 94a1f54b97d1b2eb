// Codecs that share kernels, made before one another and used by several threads at a time: none takes from
// another what it needs of the GPU.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "rotorquant/core/parallel.hpp"
#include "rotorquant/device/codec_checks.hpp"
#include "rotorquant/quantizers/calibrated_fixture.hpp"

namespace rotorquant::test {
namespace {

struct Codec {
  std::string name;
  std::shared_ptr<const Quantizer> quantizer;
  double most_error;  // of decoded normal vectors, in units of their norms
  std::unique_ptr<DeviceQuantizer> device;
};

// Of keys that its parameters are not fitted to.
std::shared_ptr<const Quantizer> calibrated_trellis(std::int64_t dim) {
  const auto parameters = testing_support::random_parameters(dim, 3, BlockKind::rotor, 3, 5);
  const Matrix keys = normal_matrix(77, dim, 5);
  return std::make_shared<CalibratedCodec>(parameters, observe_sequence(*parameters, keys.view()),
                                           nearest_search, CalibratedCode{CalibratedCodecKind::trellis, 5});
}

// Several of a kernel, that need different amounts of shared memory.
std::vector<Codec> codecs_without_device() {
  std::vector<Codec> codecs;
  for (const char* const spec : {"rotorquant:codec=trellis", "rotorquant:codec=trellis:rotation=cascade",
                                 "turboquant:codec=trellis", "turboquant", "turboquant-prod"}) {
    for (const auto& [bits, dim] : {std::pair{2, 40}, {4, 64}, {3, 64}, {6, 100}, {4, 200}, {8, 500}})
      codecs.push_back(
          {fmt::format("{}, {} bits, dim {}", spec, bits, dim), build(spec, bits, dim), 1.2, nullptr});
  }
  for (const std::int64_t dim : {40, 64, 128, 250})
    codecs.push_back({fmt::format("calibrated, dim {}", dim), calibrated_trellis(dim), 4.0, nullptr});
  return codecs;
}

void expect_all_run(const std::vector<Codec>& codecs) {
  parallel_for({8}, std::ssize(codecs), [&](std::int64_t i) {
    const Codec& codec = codecs[static_cast<std::size_t>(i)];
    SCOPED_TRACE(codec.name);
    ASSERT_NO_THROW(expect_runs(*codec.quantizer, *codec.device, ElementType::float16, codec.most_error));
  });
}

TEST(DeviceCodecs, WorkBesideOthersMadeBeforeAndAfterThem) {
  ROTORQUANT_NEEDS_GPU();
  std::vector<Codec> codecs = codecs_without_device();
  for (int order = 0; order < 2; ++order) {
    for (Codec& codec : codecs) codec.device = make_device_quantizer(codec.quantizer, 0);
    expect_all_run(codecs);
    std::reverse(codecs.begin(), codecs.end());
  }
}

}  // namespace
}  // namespace rotorquant::test
