// Every registered quantizer gives the same codes, values and scores in every instruction set, at all widths
// and at the dims where kernels begin and end. A process has one instruction set (ROTORQUANT_ISA), so that
// the test runs itself.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <memory>
#include <string>

#include "rotorquant/core/elements.hpp"
#include "rotorquant/core/isa.hpp"
#include "support/samples.hpp"

namespace rotorquant::test {
namespace {

const std::vector<std::int64_t> dims = {1,  2,  3,  4,  5,  6,  7,   8,   9,   31,  32,  33,
                                        63, 64, 65, 66, 80, 96, 127, 128, 129, 130, 256, 257};
// Not a multiple of the rows that kernels take together.
constexpr std::int64_t rows = 7;

// FNV-1a, 64 bits.
class Digest {
 public:
  void add(const void* data, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i)
      hash_ = (hash_ ^ static_cast<const std::uint8_t*>(data)[i]) * 0x100000001b3U;
  }
  std::uint64_t value() const { return hash_; }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325U;
};

std::uint64_t digest_of(const Quantizer& quantizer, std::int64_t dim) {
  const Matrix x = normal_matrix(rows, dim, 7);
  std::vector<std::uint16_t> halves(static_cast<std::size_t>(rows * dim));
  store_elements(ElementType::float16, x.values.data(), rows * dim, halves.data());
  Digest digest;
  CodeBuffer codes(quantizer.layout(), rows);
  quantizer.encode_tensor({}, {halves.data(), ElementType::float16, rows, dim}, codes.view());
  const auto view = std::as_const(codes).view();
  for (std::size_t a = 0; a < quantizer.layout().arrays.size(); ++a) {
    digest.add(view.arrays[a],
               static_cast<std::size_t>(rows * quantizer.layout().arrays[a].bytes_per_vector()));
  }
  quantizer.decode_tensor({}, view, {halves.data(), ElementType::float16, rows, dim});
  digest.add(halves.data(), 2 * halves.size());
  std::vector<float> scores(rows * rows);
  quantizer.score({}, {x.values.data(), rows, dim}, view, {scores.data(), rows, rows});
  digest.add(scores.data(), sizeof(float) * scores.size());
  quantizer.score_int8({}, {x.values.data(), rows, dim}, view, {scores.data(), rows, rows});
  digest.add(scores.data(), sizeof(float) * scores.size());
  return digest.value();
}

// Run by the test below alone.
TEST(RegistryDigests, DISABLED_Print) {
  std::vector<std::string> specs = {"turboquant:rotation=hadamard", "rotorquant:rotation=cascade",
                                    "rotorquant:rotation=cascade:scale=mse", "turboquant:codec=trellis",
                                    "rotorquant:codec=trellis:memory=3"};
  for (const QuantizerInfo& info : quantizer_registry()) specs.push_back(info.name);
  for (const std::string& spec : specs) {
    const QuantizerInfo& info = find_quantizer(QuantizerSpec::parse(spec).name);
    for (int bits = info.min_bits; bits <= info.max_bits; ++bits) {
      for (const std::int64_t dim : dims) {
        if (dim % info.dim_multiple != 0) continue;
        fmt::print("digest {} {} bits dim {}: {:016x}\n", spec, bits, dim,
                   digest_of(*build(spec, bits, dim, 42), dim));
      }
    }
  }
}

std::vector<std::string> digests(const std::string& isa) {
  // Whole also where the tests themselves are dealt out in shards.
  const std::string command =
      "env -u GTEST_TOTAL_SHARDS ROTORQUANT_ISA=" + isa +
      " /proc/$PPID/exe --gtest_also_run_disabled_tests --gtest_filter=RegistryDigests.DISABLED_Print";
  std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::vector<std::string> lines;
  char line[512];
  while (pipe && std::fgets(line, sizeof line, pipe.get()) != nullptr) {
    if (std::string(line).starts_with("digest ")) lines.emplace_back(line);
  }
  return lines;
}

TEST(RegistryDigests, AreTheSameInEveryInstructionSet) {
  const std::vector<std::string> expected = digests("serial");
  ASSERT_GT(expected.size(), 1000U);
  for (const Isa isa : {Isa::avx2, Isa::avx512}) {
    if (!isa_supported(isa)) continue;
    const std::vector<std::string> got = digests(std::string(isa_name(isa)));
    ASSERT_EQ(got.size(), expected.size()) << isa_name(isa);
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], expected[i]) << isa_name(isa);
  }
}

}  // namespace
}  // namespace rotorquant::test
