// Calibrated keys with trellis codes instead of scalar ones.
#include <gtest/gtest.h>

#include "rotorquant/cache/key_method.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/quantizers/calibrated.hpp"
#include "rotorquant/quantizers/calibrated_fixture.hpp"

namespace rotorquant {
namespace {

using testing_support::metric_error;
using testing_support::random_keys;
using testing_support::random_parameters;
using testing_support::round_trip;

constexpr CalibratedCode trellis{CalibratedCodecKind::trellis, 5};

// Keys whose transform leaves the queries' metric diagonal, which is what fits aim at: there trellis codes
// keep their share of the scalar error, though the scalar search tries five times as many pairs of scale and
// centroid.
TEST(CalibratedTrellis, LowersTheErrorThatQueriesSeeAtEqualBits) {
  constexpr double most[] = {0.68, 0.61, 0.56};  // 2, 3, 4 bits
  for (int bits = 2; bits <= 4; ++bits) {
    const auto parameters = random_parameters(64, bits, BlockKind::general);
    const std::vector<double> transform = parameters->transform.matrix();
    for (std::size_t i = 0; i < 64; ++i) {
      parameters->weights[i] = 1.0F;
      for (std::size_t j = 0; j < 64; ++j) {
        double sum = 0.0;
        for (std::size_t k = 0; k < 64; ++k) sum += transform[k * 64 + i] * transform[k * 64 + j];
        parameters->query_metric[i * 64 + j] = static_cast<float>(sum);
      }
    }
    const std::vector<float> keys = random_keys(*parameters, 600);
    const CalibratedCodec scalar(parameters);
    const CalibratedCodec with_trellis(parameters, {}, {}, trellis);
    ASSERT_EQ(scalar.layout().bytes_per_vector(), with_trellis.layout().bytes_per_vector());
    const double ratio = metric_error(*parameters, keys, round_trip(with_trellis, keys).decoded) /
                         metric_error(*parameters, keys, round_trip(scalar, keys).decoded);
    EXPECT_LT(ratio, most[bits - 2]) << bits << " bits";
  }
}

TEST(CalibratedTrellis, EachStageOfTheSearchLowersTheErrorThatQueriesSee) {
  const auto parameters = random_parameters(64, 3, BlockKind::general);
  const std::vector<float> keys = random_keys(*parameters, 300);
  const auto error_with = [&](int candidates, int refinements) {
    CalibratedSearch search;
    search.trellis_candidates = candidates;
    search.trellis_refinements = refinements;
    return metric_error(*parameters, keys,
                        round_trip(CalibratedCodec(parameters, {}, search, trellis), keys).decoded);
  };
  const double one = error_with(1, 0);
  const double some = error_with(8, 0);
  EXPECT_LT(some, 0.9 * one);
  EXPECT_LT(error_with(8, 2), 0.9 * some);  // the random metric couples coordinates strongly
}

TEST(CalibratedTrellis, KeysOfASequenceStoreWhatScalarOnesDo) {
  const auto parameters = random_parameters(64, 3, BlockKind::general);
  const std::vector<float> keys = random_keys(*parameters, 200, 1.0);
  const CalibratedKeys method(parameters, {}, {}, trellis);
  EXPECT_EQ(method.layout().bytes_per_vector(), CalibratedKeys(parameters).layout().bytes_per_vector());
  const SequenceQuantizer sequence = method.open({keys.data(), 200, 64}, 4);
  const auto* codec = dynamic_cast<const CalibratedCodec*>(sequence.quantizer.get());
  ASSERT_NE(codec, nullptr);
  EXPECT_EQ(codec->widths(),
            sequence_widths(*parameters, codec->adaptation(), trellis_distortions(trellis.memory)));
  EXPECT_NE(codec->widths(), sequence_widths(*parameters, codec->adaptation()));
}

TEST(CalibratedTrellis, MemoryIsThreeOrFive) {
  const auto parameters = random_parameters(8, 3, BlockKind::rotor);
  EXPECT_THROW(CalibratedCodec(parameters, {}, {}, {CalibratedCodecKind::trellis, 4}), Error);
}

}  // namespace
}  // namespace rotorquant
