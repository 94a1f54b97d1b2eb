// Rows times factors: every instruction set and every way of storing gives the plain loop's bits.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "rotorquant/core/scaled_rows.hpp"
#include "rotorquant/rotations/registry.hpp"
#include "support/samples.hpp"

namespace rotorquant::test {
namespace {

constexpr std::int64_t rows = 9;
const std::vector<ElementType> all_types = {ElementType::float16, ElementType::bfloat16,
                                            ElementType::float32};

// Room for [rows, cols] of any type at `offset` bytes past a multiple of 64, filled with a pattern that
// nobody writes.
struct Storage {
  Storage(ElementType type, std::int64_t cols, std::int64_t offset)
      : bytes(static_cast<std::size_t>(rows * cols * element_bytes(type) + 128), std::byte{0x5a}) {
    const auto begin = reinterpret_cast<std::uintptr_t>(bytes.data());
    data = bytes.data() + (64 - begin % 64) % 64 + offset;
    size = static_cast<std::size_t>(rows * cols * element_bytes(type));
  }
  std::vector<std::byte> content() const { return {data, data + size}; }

  std::vector<std::byte> bytes;
  std::byte* data;
  std::size_t size;
};

std::vector<float> factors() {
  std::vector<float> out;
  for (std::int64_t r = 0; r < rows; ++r) out.push_back(0.37F * static_cast<float>(r + 1));
  return out;
}

std::vector<std::byte> stored(Isa isa, const Matrix& x, ElementType type, bool stream, std::int64_t offset) {
  Storage out(type, x.cols, offset);
  store_scaled(isa, x.values.data(), factors().data(), stream, {out.data, type, rows, x.cols});
  finish_streams();
  return out.content();
}

TEST(ScaledRows, EveryInstructionSetStoresAndLoadsTheSameBits) {
  if (!isa_supported(Isa::avx512)) GTEST_SKIP() << "AVX-512 is not supported here";
  for (const ElementType type : all_types) {
    for (const std::int64_t cols : {1, 7, 15, 16, 17, 31, 32, 64, 130}) {
      SCOPED_TRACE("cols " + std::to_string(cols));
      const Matrix x = normal_matrix(rows, cols, 3);
      const std::vector<std::byte> plain = stored(Isa::serial, x, type, false, 0);
      EXPECT_EQ(stored(Isa::avx512, x, type, false, 0), plain);

      Storage in(type, cols, 0);
      std::memcpy(in.data, plain.data(), plain.size());
      std::vector<float> serial(static_cast<std::size_t>(rows * cols));
      std::vector<float> vectors(serial.size());
      load_scaled(Isa::serial, {in.data, type, rows, cols}, factors().data(), serial.data());
      load_scaled(Isa::avx512, {in.data, type, rows, cols}, factors().data(), vectors.data());
      EXPECT_EQ(serial, vectors);
    }
  }
}

TEST(ScaledRows, StreamsTheSameBitsWhereverTheyLie) {
  for (const Isa isa : {Isa::serial, Isa::avx512}) {
    if (!isa_supported(isa)) continue;
    for (const ElementType type : all_types) {
      for (const std::int64_t cols : {15, 16, 64, 130}) {
        for (const std::int64_t offset : {0L, static_cast<long>(element_bytes(type))}) {
          SCOPED_TRACE("cols " + std::to_string(cols) + ", offset " + std::to_string(offset));
          const Matrix x = normal_matrix(rows, cols, 4);
          EXPECT_EQ(stored(isa, x, type, true, offset), stored(Isa::serial, x, type, false, 0));
        }
      }
    }
  }
}

TEST(ScaledRows, RotationsStreamTheSameBits) {
  for (const std::string name :
       {"identity", "givens", "rotor", "quaternion", "hadamard", "cascade", "haar"}) {
    for (const ElementType type : all_types) {
      for (const std::int64_t dim : {33, 64, 128}) {
        SCOPED_TRACE(name + " dim " + std::to_string(dim));
        const auto rotation = make_rotation(name, dim, 5, {});
        const Matrix y = normal_matrix(rows, rotation->output_dim(), 6);
        const auto decoded = [&](bool stream, std::int64_t offset) {
          Storage out(type, dim, offset);
          rotation->apply_transpose_scaled(y.view(), factors().data(), stream, {out.data, type, rows, dim});
          finish_streams();
          return out.content();
        };
        const std::vector<std::byte> plain = decoded(false, 0);
        EXPECT_EQ(decoded(true, 0), plain);
        EXPECT_EQ(decoded(true, element_bytes(type)), plain);
      }
    }
  }
}

}  // namespace
}  // namespace rotorquant::test
