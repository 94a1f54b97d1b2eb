// What the cells of a head share, and what they must not.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "evaluation/dump/synth.hpp"
#include "evaluation/sweep/head_evaluation.hpp"
#include "evaluation/sweep/messages.hpp"

namespace rotorquant::evaluation {
namespace {

class Heads : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    // Tests run in processes of their own, several at a time.
    path_ = (std::filesystem::path(::testing::TempDir()) / fmt::format("head_evaluation_{}.h5", getpid()))
                .string();
    SynthOptions options;
    options.layers = 1;
    options.kv_heads = 1;
    options.query_heads = 2;
    options.tokens = 96;
    options.head_dim = 32;
    write_synthetic_dump(path_, options, {1});
  }
  static void TearDownTestSuite() { std::filesystem::remove(path_); }

  static TensorMethod method(const std::string& spec, std::uint64_t seed) {
    return TensorMethod(parse_tensor_spec(spec, spec == "q8_0" ? 8 : 3, 0),
                        {.seed = seed, .dim = 32, .transforms = nullptr});
  }
  static Cell cell_of(HeadEvaluation& head, const std::string& spec, std::uint64_t seed) {
    Cell cell;
    cell.seed = seed;
    head.evaluate({method(spec, seed), method(spec, seed)}, nullptr, cell);
    return cell;
  }

  static inline std::string path_;
};

TEST_F(Heads, SeedsShareWhatDoesNotDependOnThem) {
  const Dump dump = Dump::open(path_);
  HeadEvaluation head(dump, {0, 0}, {.num_settings = 1});
  ASSERT_FALSE(method("q8_0", 1).depends_on_seed());
  const Cell first = cell_of(head, "q8_0", 1);
  const Cell second = cell_of(head, "q8_0", 2);
  EXPECT_EQ(first.metrics[0], second.metrics[0]);
  EXPECT_EQ(first.encode_seconds, second.encode_seconds) << "coded again";
}

TEST_F(Heads, SeededCodesAreOfTheirSeed) {
  const Dump dump = Dump::open(path_);
  HeadEvaluation head(dump, {0, 0}, {.num_settings = 1});
  ASSERT_TRUE(method("turboquant", 1).depends_on_seed());
  EXPECT_NE(cell_of(head, "turboquant", 1).metrics[0], cell_of(head, "turboquant", 2).metrics[0]);
  EXPECT_EQ(cell_of(head, "turboquant", 1).metrics[0], cell_of(head, "turboquant", 1).metrics[0]);
}

TEST_F(Heads, ErrorsNameTheTensorAndRepeatForEverySeed) {
  const Dump dump = Dump::open(path_);
  HeadEvaluation head(dump, {0, 0}, {.num_settings = 1});
  Cell cell;
  // A method of another dim refuses these keys, each time it is asked.
  const TensorMethod wrong(parse_tensor_spec("q8_0", 8, 0), {.seed = 1, .dim = 64, .transforms = nullptr});
  for (int attempt = 0; attempt < 2; ++attempt) {
    const std::string message = testing::error_message([&] {
      head.evaluate({wrong, method("q8_0", 1)}, nullptr, cell);
    });
    testing::expect_contains(message, "layers/000/key of KV head 0");
  }
}

}  // namespace
}  // namespace rotorquant::evaluation
