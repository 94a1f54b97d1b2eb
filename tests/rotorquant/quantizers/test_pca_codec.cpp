// Principal components with allocated widths (KVTC's transform).
#include <gtest/gtest.h>

#include <numeric>

#include "rotorquant/codes/bit_allocation.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/quantizers/pca_codec.hpp"
#include "rotorquant/rotations/dense.hpp"
#include "support/samples.hpp"

namespace rotorquant::test {
namespace {

constexpr std::int64_t dim = 24;

// Components of a random rotation, variances that fall by half from one to the next, a mean far from 0.
KeyStatistics statistics() {
  KeyStatistics s;
  const DenseRotation rotation = DenseRotation::haar(dim, 5);
  Matrix unit(dim, dim), rows(dim, dim);
  for (std::int64_t i = 0; i < dim; ++i) unit.row(i)[i] = 1.0F;
  rotation.apply_transpose(unit.view(), rows.view());
  s.components = rows.values;
  for (std::int64_t i = 0; i < dim; ++i) {
    s.mean.push_back(3.0F + 0.1F * static_cast<float>(i));
    s.variances.push_back(std::ldexp(1.0F, static_cast<int>(-i / 2)));
    s.key_energy.push_back(1.0F);
    s.query_energy.push_back(1.0F);
  }
  return s;
}

// mean + V^T (deviation * normal).
Matrix keys_of(const KeyStatistics& s, std::int64_t count) {
  const Matrix normal = normal_matrix(count, dim, 9);
  Matrix keys(count, dim);
  for (std::int64_t t = 0; t < count; ++t) {
    for (std::int64_t c = 0; c < dim; ++c) {
      double sum = static_cast<double>(s.mean[static_cast<std::size_t>(c)]);
      for (std::int64_t i = 0; i < dim; ++i) {
        sum += static_cast<double>(s.components[static_cast<std::size_t>(i * dim + c)]) *
               std::sqrt(static_cast<double>(s.variances[static_cast<std::size_t>(i)])) *
               static_cast<double>(normal.row(t)[i]);
      }
      keys.row(t)[c] = static_cast<float>(sum);
    }
  }
  return keys;
}

TEST(PcaCodec, StoresTheBitsOfTurboQuant) {
  for (const int bits : {1, 2, 3, 4}) {
    const PcaCodec codec(statistics(), bits);
    EXPECT_EQ(codec.layout().bytes_per_vector(), build("turboquant", bits, dim)->layout().bytes_per_vector());
    EXPECT_EQ(std::accumulate(codec.widths().begin(), codec.widths().end(), 0), bits * dim + 16);
  }
}

// On data of these very statistics the error is the sum of what theory gives each component.
TEST(PcaCodec, ReachesTheDistortionOfItsWidths) {
  const KeyStatistics s = statistics();
  const Matrix keys = keys_of(s, 4000);
  for (const int bits : {1, 2, 3}) {
    const PcaCodec codec(s, bits);
    const Matrix decoded = decode(codec, encode(codec, keys));
    double measured = 0.0, expected = 0.0;
    for (std::int64_t t = 0; t < keys.rows; ++t) {
      const double gap = distance(keys.row(t), decoded.row(t), dim);
      measured += gap * gap / static_cast<double>(keys.rows);
    }
    for (std::int64_t i = 0; i < dim; ++i) {
      const auto at = static_cast<std::size_t>(i);
      expected += static_cast<double>(s.variances[at]) * lloyd_max_distortions()[codec.widths()[at]];
    }
    EXPECT_NEAR(measured, expected, 0.03 * expected) << bits;
  }
}

TEST(PcaCodec, NamesWhatItRefuses) {
  const PcaCodec codec(statistics(), 2);
  Matrix keys(70, dim);
  keys.row(66)[5] = INFINITY;
  try {
    encode(codec, keys);
    ADD_FAILURE() << "infinity was accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("row 66, coordinate 5"), std::string::npos) << error.what();
  }
  KeyStatistics bad = statistics();
  bad.variances[3] = -1.0F;
  EXPECT_THROW(PcaCodec(bad, 2), Error);
  bad = statistics();
  bad.components.pop_back();
  EXPECT_THROW(PcaCodec(bad, 2), Error);
}

}  // namespace
}  // namespace rotorquant::test
