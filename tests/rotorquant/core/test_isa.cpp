#include <gtest/gtest.h>

#include <string>

#include "rotorquant/core/error.hpp"
#include "rotorquant/core/isa.hpp"

namespace rotorquant {
namespace {

TEST(Isa, TakesTheBestSupportedOneUnlessAskedOtherwise) {
  EXPECT_TRUE(isa_supported(Isa::serial));
  EXPECT_EQ(select_isa("serial"), Isa::serial);
  const Isa best = select_isa("");
  EXPECT_TRUE(isa_supported(best));
  for (const Isa isa : {Isa::avx2, Isa::avx512}) {
    if (isa_supported(isa)) {
      EXPECT_EQ(select_isa(isa_name(isa)), isa);
      EXPECT_GE(best, isa);
    } else {
      EXPECT_THROW(select_isa(isa_name(isa)), UsageError);
    }
  }
}

TEST(Isa, NamesTheValidOnesInItsError) {
  try {
    select_isa("neon");
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("serial, avx2, avx512"), std::string::npos);
  }
}

}  // namespace
}  // namespace rotorquant
