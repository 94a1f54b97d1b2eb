// Packing changes where bits are stored and nothing else.
#include <gtest/gtest.h>

#include "rotorquant/quantizers/packed_codes.hpp"
#include "support/samples.hpp"

namespace rotorquant::test {
namespace {

TEST(PackedCodes, DecodeToTheSameAndStoreNoPaddingBetweenPlanes) {
  constexpr std::int64_t dim = 21;
  for (const int bits : {1, 3, 8}) {
    const auto plain = build("turboquant", bits, dim);
    const PackedCodes packed(plain, {{0, dim, bits}});
    EXPECT_EQ(packed.layout().bits_of(FieldKind::index), bits * dim);
    EXPECT_EQ(packed.layout().bits_of(FieldKind::padding), (8 - bits * dim % 8) % 8);
    EXPECT_EQ(packed.layout().bits_of(FieldKind::norm), 16);
    const Matrix x = normal_matrix(70, dim, 4);
    const CodeBuffer codes = encode(packed, x, {2});
    EXPECT_EQ(codes.bytes(), 70 * ((bits * dim + 7) / 8 + 2));
    EXPECT_EQ(decode(packed, codes, {2}).values, decode(*plain, encode(*plain, x)).values);
  }
}

}  // namespace
}  // namespace rotorquant::test
