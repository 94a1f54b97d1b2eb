// Codes are a stored format: the same seed and input give the same bytes for ever. A digest that changes says
// that stored codes of earlier versions no longer decode.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "support/samples.hpp"

namespace rotorquant::test {
namespace {

// FNV-1a, 64 bits (Fowler, Noll, Vo).
std::uint64_t digest(const std::vector<std::uint8_t>& bytes) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const std::uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3U;
  return hash;
}

constexpr int pinned_bits = 3;

std::uint64_t code_digest(const std::string& spec, std::int64_t least_dim) {
  const QuantizerInfo& info = find_quantizer(QuantizerSpec::parse(spec).name);
  const std::int64_t dim = (least_dim + info.dim_multiple - 1) / info.dim_multiple * info.dim_multiple;
  const auto quantizer = build(spec, std::clamp(pinned_bits, info.min_bits, info.max_bits), dim, 42);
  return digest(bytes_of(*quantizer, encode(*quantizer, normal_matrix(50, dim, 7))));
}

struct Digests {
  std::uint64_t d64, d67;
};

const std::map<std::string, Digests>& pinned() {
  static const std::map<std::string, Digests> table = {
      {"identity", {0x22d096c1b6fd7ea5, 0x452108f0f8aa07fd}},
      {"planarquant", {0x24daac1ad96cee17, 0xabc8137f4c628eb5}},
      {"rotorquant", {0x831e63717e5af03e, 0x49684f6e1a8a9f93}},
      {"rotorquant-prod", {0x1c579a8647e5909f, 0xef26880970a66f3c}},
      {"rotorquant-trivector", {0xee776787c5af069e, 0xa4f17fd320ed2d51}},
      {"isoquant", {0x8dd77ea47b8ff552, 0xa294f1f56cc4c5c7}},
      {"turboquant", {0x6b02bad2b42e7740, 0xb83d29153bfe4915}},
      {"turboquant:codec=trellis", {0xddceaf0990cd0402, 0x67c3e1adc2655d63}},
      {"turboquant:codec=trellis:memory=3", {0x903ee3058f447a22, 0x4d33ef1b7318c316}},
      {"turboquant-prod", {0xa63a718e01dd5944, 0x563848fc5dcf8be8}},
      {"rabitq", {0x3c4a3c36bf7eb043, 0xc5a54bb93fb25a38}},
      {"kivi", {0x810f2615d32f0c00, 0x96da6e609c34fc2e}},
      {"q4_0", {0x737234c7fad94f00, 0x15b940c52f210ef9}},
      {"q8_0", {0x2ebdefccfdbfc4ef, 0x922bfa3b5abf10d1}},
      {"fp8-e4m3", {0xccf0f6c157c296ff, 0xdf490ff598cb6142}},
      {"identity16", {0xa39a0e95578a282c, 0x48659966c62ea064}},
  };
  return table;
}

TEST(PinnedCodes, OfEveryQuantizerAreUnchanged) {
  std::vector<std::string> specs = {"turboquant:codec=trellis", "turboquant:codec=trellis:memory=3"};
  for (const QuantizerInfo& info : quantizer_registry()) specs.push_back(info.name);
  for (const std::string& spec : specs) {
    const Digests now = {code_digest(spec, 64), code_digest(spec, 67)};
    const std::string line = fmt::format("{{\"{}\", {{{:#018x}, {:#018x}}}}},", spec, now.d64, now.d67);
    const auto known = pinned().find(spec);
    if (known == pinned().end()) {
      ADD_FAILURE() << "not pinned; the line is " << line;
      continue;
    }
    EXPECT_TRUE(known->second.d64 == now.d64 && known->second.d67 == now.d67) << "codes are now " << line;
  }
}

}  // namespace
}  // namespace rotorquant::test
