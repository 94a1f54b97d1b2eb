// Trellis codes of rotated vectors against scalar codes at the same stored bits, and what both ends of the
// scales' range mean.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "rotorquant/core/error.hpp"
#include "rotorquant/quantizers/trellis_codec.hpp"
#include "rotorquant/rotations/identity.hpp"
#include "support/hdf5_file.hpp"
#include "support/samples.hpp"

namespace rotorquant::test {
namespace {

constexpr std::int64_t rows = 4000;

double distortion(const Quantizer& quantizer, const Matrix& x) {
  const Matrix decoded = decode(quantizer, encode(quantizer, x, {2}), {2});
  double error = 0.0;
  double energy = 0.0;
  for (std::int64_t r = 0; r < x.rows; ++r) {
    const double gap = distance(x.row(r), decoded.row(r), x.cols);
    error += gap * gap;
    energy += inner_product(x.row(r), x.row(r), x.cols);
  }
  return error / energy;
}

TEST(TrellisCodec, HasAFractionOfTheScalarDistortionAtEqualBits) {
  // Of Lloyd-Max at 1, 2, 3, 4 bits, at 64 dimensions.
  constexpr double factors[] = {0.74, 0.60, 0.52, 0.50};
  // The 8 bits that the scale frees are a smaller share of longer vectors.
  struct Dilution {
    std::int64_t dim;
    double above_64;
  };
  constexpr Dilution dilutions[] = {{80, 1.05}, {96, 1.07}, {128, 1.10}};
  const auto factor_at = [](int bits, std::int64_t dim) {
    const Matrix x = normal_matrix(rows, dim, 21);
    const auto scalar = build("turboquant", bits, dim);
    const auto trellis = build("turboquant:codec=trellis", bits, dim);
    EXPECT_EQ(trellis->layout().bytes_per_vector(), scalar->layout().bytes_per_vector());
    return distortion(*trellis, x) / distortion(*scalar, x);
  };
  for (int bits = 1; bits <= 4; ++bits) {
    const double at_64 = factor_at(bits, 64);
    EXPECT_LE(at_64, factors[bits - 1]) << bits << " bits";
    for (const Dilution& dilution : dilutions) {
      EXPECT_LE(factor_at(bits, dilution.dim), dilution.above_64 * at_64)
          << bits << " bits, dim " << dilution.dim;
    }
  }
}

TEST(TrellisCodec, MoreMemoryLowersTheDistortion) {
  const Matrix x = normal_matrix(rows, 64, 22);
  for (int bits = 1; bits <= 4; ++bits) {
    EXPECT_LT(distortion(*build("turboquant:codec=trellis", bits, 64), x),
              0.97 * distortion(*build("turboquant:codec=trellis:memory=3", bits, 64), x));
  }
}

// b d + 16 bits: 8 of the scale, d symbols of b bits and 8 freed top bits.
TEST(TrellisCodec, StoresAllBitsOfAScalarCodec) {
  for (const std::int64_t dim : {8, 33, 64, 80, 128}) {
    for (int bits = 1; bits <= 8; ++bits) {
      const CodeLayout layout = build("turboquant:codec=trellis", bits, dim)->layout();
      const std::int64_t freed = bits == 8 ? 0 : 8;
      EXPECT_EQ(layout.bits_of(FieldKind::scale), 8);
      EXPECT_EQ(layout.bits_of(FieldKind::index), bits * dim + freed);
      EXPECT_EQ(layout.bytes_per_vector(), 2 + (bits * dim + 7) / 8);
    }
  }
}

// The scales' ends are 2^(127/16) = 245.1 and 2^(-127/16) = 0.00408, moved by whole octaves.
TEST(TrellisCodec, NamesTheRowAboveItsScales) {
  Matrix x = normal_matrix(70, 64, 23);
  std::fill_n(x.row(66), 64, 246.0F);
  try {
    encode(*build("turboquant:codec=trellis", 3, 64), x);
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("row 66"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("scale_offset"), std::string::npos) << error.what();
  }
  EXPECT_LT(distortion(*build("turboquant:codec=trellis:scale_offset=1", 3, 64), x), 0.03);
  std::fill_n(x.row(66), 64, 244.0F);
  EXPECT_LT(distortion(*build("turboquant:codec=trellis", 3, 64), x), 0.03);
}

TEST(TrellisCodec, DecodesWhatIsBelowItsScalesToZeros) {
  Matrix x = normal_matrix(1, 64, 24);
  for (float& value : x.values) value *= 1e-3F;
  const auto codec = build("turboquant:codec=trellis", 3, 64);
  EXPECT_EQ(decode(*codec, encode(*codec, x)).values, std::vector<float>(64, 0.0F));
  EXPECT_LT(distortion(*build("turboquant:codec=trellis:scale_offset=-4", 3, 64), x), 0.03);
}

// Captured values: all fit the scales, and keep the gain on Gaussians.
TEST(TrellisCodec, SuitsCapturedValues) {
  constexpr double factors[] = {0.60, 0.52, 0.50};  // of Lloyd-Max at 2, 3, 4 bits, every layer and head
  constexpr std::int64_t sinks = 4;
  for (const std::string name : {"smollm2-jargon-small.h5", "smollm2-python-small.h5"}) {
    const Hdf5File file(std::string(ROTORQUANT_SOURCE_DIR) + "/data/" + name);
    for (const std::string& layer : file.children("/layers")) {
      const Array<float> values = file.read<float>("/layers/" + layer + "/value");
      const std::int64_t tokens = values.shape[1];
      const std::int64_t dim = values.shape[2];
      for (std::int64_t head = 0; head < values.shape[0]; ++head) {
        Matrix x(tokens - sinks, dim);
        std::copy_n(values.row(head) + sinks * dim, x.values.size(), x.values.begin());
        for (int bits = 2; bits <= 4; ++bits) {
          const double factor =
              distortion(*build("turboquant:rotation=hadamard:codec=trellis", bits, dim), x) /
              distortion(*build("turboquant", bits, dim), x);
          EXPECT_LE(factor, factors[bits - 2]) << name << ", layer " << layer << ", head " << head;
        }
      }
    }
  }
}

// Without a rotation the codec is the value format itself.
TEST(TrellisCodec, WithoutRotationIsTheValueFormat) {
  const auto identity = std::make_shared<IdentityRotation>(80);
  const TrellisCodec codec(identity, 3, 5);
  const Matrix x = normal_matrix(100, 80, 25);
  const CodeBuffer codes = encode(codec, x);
  TrellisWorkspace workspace;
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(codec.format().bytes_per_vector()));
  for (std::int64_t r = 0; r < x.rows; ++r) {
    codec.format().encode(x.row(r), bytes.data(), workspace);
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(),
                           codes.view().arrays[0] + r * codec.format().bytes_per_vector()));
  }
}

}  // namespace
}  // namespace rotorquant::test
