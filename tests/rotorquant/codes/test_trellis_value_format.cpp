// The value format: conformance with the golden file, its layout, its scales, and equality across instruction
// sets.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "rotorquant/codes/trellis_value_format.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/random.hpp"
#include "support/hdf5_file.hpp"
#include "support/isas.hpp"

namespace rotorquant {
namespace {

using test::Hdf5File;
using test::supported_isas;

// Sum ||y - y_hat||^2 / sum ||y||^2.
double nmse(const std::vector<float>& y, const std::vector<float>& y_hat) {
  double error = 0.0;
  double energy = 0.0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double difference = static_cast<double>(y[i]) - static_cast<double>(y_hat[i]);
    error += difference * difference;
    energy += static_cast<double>(y[i]) * static_cast<double>(y[i]);
  }
  return error / energy;
}

std::vector<std::uint8_t> encode_rows(const TrellisValueFormat& format, const std::vector<float>& y) {
  const auto dim = static_cast<std::size_t>(format.dim());
  const auto stride = static_cast<std::size_t>(format.bytes_per_vector());
  std::vector<std::uint8_t> bytes(y.size() / dim * stride);
  TrellisWorkspace workspace;
  for (std::size_t row = 0; row < y.size() / dim; ++row) {
    format.encode(y.data() + row * dim, bytes.data() + row * stride, workspace);
  }
  return bytes;
}

std::vector<float> decode_rows(const TrellisValueFormat& format, const std::vector<std::uint8_t>& bytes) {
  const auto dim = static_cast<std::size_t>(format.dim());
  const auto stride = static_cast<std::size_t>(format.bytes_per_vector());
  std::vector<float> y_hat(bytes.size() / stride * dim);
  for (std::size_t row = 0; row < bytes.size() / stride; ++row) {
    format.decode(bytes.data() + row * stride, y_hat.data() + row * dim);
  }
  return y_hat;
}

std::vector<float> gaussian(RandomStream& random, std::size_t count) {
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random.normal());
  return values;
}

// One set of codes of a golden file: y [rows, 64], bytes, and what they decode to with the file's own tables.
struct GoldenCase {
  std::string name;
  int bits;
  std::shared_ptr<const TrellisCodebook> codebook;
  std::vector<float> y;
  std::vector<std::uint8_t> bytes;
  std::vector<float> decoded;
};

std::shared_ptr<const TrellisCodebook> golden_codebook(const Hdf5File& file, const std::string& group,
                                                       int memory) {
  std::vector<TrellisLevels> levels;
  for (const std::string& width : file.children(group + "/table")) {
    const std::vector<std::int32_t> stored = file.read<std::int32_t>(group + "/table/" + width).values;
    const std::vector<std::int16_t> table(stored.begin(), stored.end());
    levels.emplace_back(TrellisTable{memory, std::stoi(width.substr(1)), 32, table, 0.0});
  }
  return std::make_shared<const TrellisCodebook>(std::move(levels));
}

// From every file of the golden folder that has the groups of this format, whatever the file's name.
std::vector<GoldenCase> golden_cases() {
  const char* const folder = std::getenv("ROTORQUANT_GOLDEN_DIR");
  std::vector<GoldenCase> cases;
  for (const auto& entry :
       std::filesystem::directory_iterator(folder == nullptr ? ROTORQUANT_GOLDEN_DIR_DEFAULT : folder)) {
    if (entry.path().extension() != ".h5") continue;
    const Hdf5File file(entry.path().string());
    for (const int memory : {3, 5}) {
      const std::string group = fmt::format("/M{}", memory);
      if (!file.has("/y") || !file.has(group)) continue;
      const auto codebook = golden_codebook(file, group, memory);
      for (const std::string& bits : file.children(group)) {
        if (bits.front() != 'b') continue;
        cases.push_back({group + "/" + bits, std::stoi(bits.substr(1)), codebook,
                         file.read<float>("/y").values,
                         file.read<std::uint8_t>(group + "/" + bits + "/bytes").values,
                         file.read<float>(group + "/" + bits + "/decoded").values});
      }
    }
  }
  return cases;
}

TEST(TrellisGolden, BytesDecodeToTheFilesValuesExactly) {
  const std::vector<GoldenCase> cases = golden_cases();
  EXPECT_FALSE(cases.empty());
  for (const GoldenCase& golden : cases) {
    for (const Isa isa : supported_isas()) {
      const TrellisValueFormat format(64, golden.bits, golden.codebook, {.isa = isa});
      EXPECT_EQ(decode_rows(format, golden.bytes), golden.decoded) << golden.name << " " << isa_name(isa);
    }
  }
}

// Over all 96 rows, of which the first 48 are Gaussian (the file's attribute nmse_gaussian_rows covers those
// alone) and the others have smaller norms; decoded from our own bytes with the file's tables.
TEST(TrellisGolden, EncoderIsAsGoodAsTheFiles) {
  constexpr double allowance = 1.005;
  for (const GoldenCase& golden : golden_cases()) {
    const TrellisValueFormat format(64, golden.bits, golden.codebook);
    const double ours = nmse(golden.y, decode_rows(format, encode_rows(format, golden.y)));
    const double theirs = nmse(golden.y, golden.decoded);
    EXPECT_LE(ours, allowance * theirs) << golden.name;
    RecordProperty("ratio" + golden.name, std::to_string(ours / theirs));
  }
}

class TrellisValueFormatOf : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Memories, TrellisValueFormatOf, testing::Values(3, 5),
                         [](const auto& memory) { return fmt::format("M{}", memory.param); });

constexpr int dims[] = {1,  2,  3,  4,  5,  7,  8,   9,   15,  16,  31,  32,
                        33, 63, 64, 65, 80, 96, 112, 128, 200, 576, 4096};

TEST_P(TrellisValueFormatOf, PacksAndUnpacksAnySymbols) {
  RandomStream random(1, Purpose::synthetic);
  for (const int dim : dims) {
    for (int bits = 1; bits <= 4; ++bits) {
      const TrellisValueFormat format(dim, bits, GetParam());
      std::vector<std::uint8_t> symbols;
      for (const std::uint8_t width : format.widths()) {
        symbols.push_back(static_cast<std::uint8_t>(random.integer(1 << width)));
      }
      const auto size = static_cast<std::size_t>(format.bytes_per_vector());
      ASSERT_EQ(size, static_cast<std::size_t>(2 + (bits * dim + 7) / 8));
      std::vector<std::uint8_t> bytes(size + 1, 0xA5);
      format.pack(symbols.data(), bytes.data());
      ASSERT_EQ(bytes[0], 0xA5);
      ASSERT_EQ(bytes[size], 0xA5);
      bytes.pop_back();
      std::vector<std::uint8_t> unpacked(symbols.size(), 0xFF);
      format.unpack(bytes.data(), unpacked.data());
      ASSERT_EQ(unpacked, symbols) << "dim " << dim << " bits " << bits;
    }
  }
}

TEST_P(TrellisValueFormatOf, AnyBytesDecodeAlikeOnEveryInstructionSet) {
  RandomStream random(2, Purpose::synthetic);
  for (const int dim : dims) {
    for (int bits = 1; bits <= 8; ++bits) {
      const TrellisValueFormat serial(dim, bits, GetParam(), {.isa = Isa::serial});
      std::vector<std::uint8_t> bytes(static_cast<std::size_t>(serial.bytes_per_vector()) * 8);
      for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random.integer(256));
      const std::vector<float> expected = decode_rows(serial, bytes);
      for (const Isa isa : supported_isas()) {
        ASSERT_EQ(decode_rows(TrellisValueFormat(dim, bits, GetParam(), {.isa = isa}), bytes), expected)
            << "dim " << dim << " bits " << bits << " " << isa_name(isa);
      }
    }
  }
}

TEST_P(TrellisValueFormatOf, EncodesAlikeOnEveryInstructionSet) {
  RandomStream random(3, Purpose::synthetic);
  for (const int dim : {1, 6, 20, 64, 80, 128, 576}) {
    const std::vector<float> y = gaussian(random, static_cast<std::size_t>(dim) * 10);
    const std::vector<std::uint8_t> expected =
        encode_rows(TrellisValueFormat(dim, 3, GetParam(), {.isa = Isa::serial}), y);
    for (const Isa isa : supported_isas()) {
      EXPECT_EQ(encode_rows(TrellisValueFormat(dim, 3, GetParam(), {.isa = isa}), y), expected)
          << "dim " << dim << " " << isa_name(isa);
    }
  }
}

// The stored scale is within one step of 2^(1/16) of the best one, and quantizing it costs next to nothing.
TEST_P(TrellisValueFormatOf, DistortionIsThatOfTheTables) {
  RandomStream random(4, Purpose::synthetic);
  // Uniform widths cost the tables' distortion; the eight wider coordinates of d = 64 bring it down to about
  // 7/8 + 1/32 of it.
  constexpr double with_extra_bits = 7.0 / 8.0 + 1.0 / 8.0 / 4.0;
  constexpr double sampling_tolerance = 1.03;
  for (int bits = 1; bits <= 4; ++bits) {
    const TrellisValueFormat format(64, bits, GetParam());
    const std::vector<float> y = gaussian(random, 64 * 1000);
    EXPECT_LT(nmse(y, decode_rows(format, encode_rows(format, y))),
              sampling_tolerance * with_extra_bits * trellis_table(GetParam(), bits).mse)
        << bits << " bits";
  }
}

TEST(TrellisValueFormat, MoreScaleTrialsFindBetterCodes) {
  RandomStream random(9, Purpose::synthetic);
  const std::vector<float> y = gaussian(random, 64 * 300);
  const auto distortion = [&](int trials) {
    const TrellisValueFormat format(64, 3, 5, {.scale_trials = trials});
    return nmse(y, decode_rows(format, encode_rows(format, y)));
  };
  const double one = distortion(1);
  EXPECT_LT(distortion(2), 0.985 * one);
  EXPECT_LT(distortion(3), 0.97 * one);
}

TEST(TrellisValueFormat, LaysBitsOutAsSpecified) {
  const TrellisValueFormat format(64, 2, 5);
  std::vector<std::uint8_t> symbols(64, 0);
  symbols[0] = 0b01;
  symbols[4] = 0b100;
  symbols[10] = 0b10;
  symbols[60] = 0b111;
  std::vector<std::uint8_t> bytes(18, 0);
  format.pack(symbols.data(), bytes.data());
  std::vector<std::uint8_t> expected(18, 0);
  expected[1] = 0b1000'0001;       // coordinates 4 and 60
  expected[2] = 0b0000'1000;       // plane 0, reversed: coordinate 60 at bit 3
  expected[9] = 0b1000'0000;       // coordinate 0 at bit 63
  expected[10 + 1] = 0b0000'0100;  // plane 1: coordinate 10
  expected[10 + 7] = 0b0001'0000;  // coordinate 60
  EXPECT_EQ(bytes, expected);
}

TEST(TrellisValueFormat, GivesEveryExtraBitACoordinateOfItsOwn) {
  for (int dim = 1; dim <= 300; ++dim) {
    const TrellisValueFormat format(dim, 3, 5);
    int wider = 0;
    for (const std::uint8_t width : format.widths()) wider += width - 3;
    EXPECT_EQ(wider, std::min(dim, 8)) << dim;
    for (const std::uint8_t width : format.widths()) EXPECT_LE(width, 4) << dim;
  }
  const TrellisValueFormat widest(64, 8, 5);
  for (const std::uint8_t width : widest.widths()) EXPECT_EQ(width, 8);
  const TrellisValueFormat golden(80, 3, 5);
  for (int j = 0; j < 8; ++j) EXPECT_EQ(golden.widths()[static_cast<std::size_t>(10 * j + 4)], 4);
}

TEST(TrellisValueFormat, ZeroTinyAndHugeVectors) {
  const TrellisValueFormat format(64, 3, 5);
  RandomStream random(5, Purpose::synthetic);
  const std::vector<float> shape = gaussian(random, 64);
  const auto scaled = [&](float factor) {
    std::vector<float> y = shape;
    for (float& value : y) value *= factor;
    return y;
  };
  const std::vector<float> zeros(64, 0.0F);
  const std::vector<std::uint8_t> zero_bytes = encode_rows(format, zeros);
  EXPECT_EQ(zero_bytes, std::vector<std::uint8_t>(26, 0));
  EXPECT_EQ(decode_rows(format, zero_bytes), zeros);
  EXPECT_EQ(decode_rows(format, encode_rows(format, scaled(1e-6F))), zeros);
  EXPECT_EQ(decode_rows(format, encode_rows(format, scaled(1e-38F))), zeros);
  // Beyond the largest scale, 2^7.94 = 245: the code saturates, with the error of the part that is cut off.
  const std::vector<float> huge = scaled(1e4F);
  const std::vector<float> saturated = decode_rows(format, encode_rows(format, huge));
  EXPECT_LT(nmse(huge, saturated), 1.0);
  for (std::size_t t = 0; t < 64; ++t) {
    if (std::fabs(shape[t]) > 0.5F) {
      EXPECT_GT(saturated[t] * huge[t], 0.0F);
    }
  }
}

TEST(TrellisValueFormat, OffsetMovesTheRangeByOctaves) {
  RandomStream random(6, Purpose::synthetic);
  const std::vector<float> y = gaussian(random, 64 * 16);
  const TrellisValueFormat plain(64, 3, 5);
  const std::vector<std::uint8_t> bytes = encode_rows(plain, y);
  const std::vector<float> y_hat = decode_rows(plain, bytes);
  for (const int offset : {-100, -20, 13, 100}) {
    const TrellisValueFormat moved(64, 3, 5, {.offset = offset});
    std::vector<float> moved_y = y;
    std::vector<float> moved_y_hat = y_hat;
    for (float& value : moved_y) value = std::ldexp(value, offset);
    for (float& value : moved_y_hat) value = std::ldexp(value, offset);
    EXPECT_EQ(encode_rows(moved, moved_y), bytes) << offset;
    EXPECT_EQ(decode_rows(moved, bytes), moved_y_hat) << offset;
  }
  EXPECT_THROW(TrellisValueFormat(64, 3, 5, {.offset = 101}), Error);
}

TEST(TrellisValueFormat, RefusesWhatItCannotStore) {
  EXPECT_THROW(TrellisValueFormat(0, 3, 5), Error);
  EXPECT_THROW(TrellisValueFormat(4097, 3, 5), Error);
  EXPECT_THROW(TrellisValueFormat(64, 0, 5), Error);
  EXPECT_THROW(TrellisValueFormat(64, 9, 5), Error);
  EXPECT_THROW(TrellisValueFormat(64, 3, 5, {.scale_trials = 0}), Error);
}

}  // namespace
}  // namespace rotorquant
