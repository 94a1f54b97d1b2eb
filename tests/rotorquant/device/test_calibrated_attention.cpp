// Scores and attention on the GPU with calibrated keys against float64 products with the keys that the CPU
// decodes and turns.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "rotorquant/cache/rope.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/device/attention_reference.hpp"
#include "rotorquant/quantizers/calibrated_fixture.hpp"

namespace rotorquant::test {
namespace {

using testing_support::random_keys;
using testing_support::random_parameters;

constexpr CalibratedCode scalar_code{};
constexpr CalibratedCode trellis_code{CalibratedCodecKind::trellis, 5};
// Of the norms' product: decoded keys, their scales and the sines that turn them are rounded to fp16.
constexpr double score_tolerance = 5e-4;

Rope make_rope(std::int64_t pairs, RopeLayout layout) {
  Rope rope;
  rope.layout = layout;
  for (std::int64_t j = 0; j < pairs; ++j) {
    rope.inv_freq.push_back(std::pow(10000.0, -static_cast<double>(j) / static_cast<double>(pairs)));
  }
  return rope;
}

struct Keys {
  std::vector<std::shared_ptr<const CalibratedCodec>> codecs;
  std::vector<std::uint8_t> codes;  // [heads, capacity, bytes]
  Matrix turned;                    // [heads * capacity, dim], decoded and after RoPE

  // even: energies are, and so widths differ little.
  Keys(std::int64_t dim, int bits, std::int64_t heads, std::int64_t capacity, const Rope& rope,
       const CalibratedCode& code, bool even = false)
      : turned(heads * capacity, dim) {
    std::vector<std::int64_t> positions(static_cast<std::size_t>(capacity));
    std::iota(positions.begin(), positions.end(), 0);
    const RopeTable table(rope, positions);
    for (std::int64_t h = 0; h < heads; ++h) {
      const auto seed = static_cast<std::uint64_t>(h + 1);
      const auto parameters = random_parameters(dim, bits, h % 2 == 0 ? BlockKind::general : BlockKind::rotor,
                                                h % 2 == 0 ? 5 : 3, seed);
      if (even) std::fill(parameters->deviations.begin(), parameters->deviations.end(), 1.0F);
      const std::vector<float> x = random_keys(*parameters, capacity, 0.3, seed);
      const SequenceAdaptation adaptation = observe_sequence(*parameters, {x.data(), capacity, dim});
      codecs.push_back(std::make_shared<CalibratedCodec>(parameters, adaptation, nearest_search, code));
      CodeBuffer buffer(codecs.back()->layout(), capacity);
      codecs.back()->encode({}, {x.data(), capacity, dim}, buffer.view());
      const std::uint8_t* const begin = std::as_const(buffer).view().arrays[0];
      codes.insert(codes.end(), begin,
                   begin + capacity * codecs.back()->layout().arrays[0].bytes_per_vector());
      const HostView<float> rows{turned.row(h * capacity), capacity, dim};
      codecs.back()->decode({}, std::as_const(buffer).view(), rows);
      table.apply(rows);
    }
  }
};

Codes<Space::cuda> codes_at(const DeviceBytes& memory, std::int64_t count) {
  Codes<Space::cuda> codes;
  codes.arrays[0] = memory.data();
  codes.count = count;
  return codes;
}
const float* floats_at(const DeviceBytes& memory) {
  return reinterpret_cast<const float*>(memory.data());
}
float* writable_floats_at(const DeviceBytes& memory) {
  return reinterpret_cast<float*>(memory.data());
}

// Scores [heads * queries_per_head, capacity] of the first tokens; what is not written keeps the memory's
// pattern.
Matrix scores_of(const KeyScores& scorer, const AttentionSize& size, const Matrix& queries,
                 const DeviceBytes& keys) {
  Matrix copied = queries;
  const DeviceBytes device_queries(to_elements(copied, ElementType::float32));
  const DeviceBytes out(static_cast<std::size_t>(4 * queries.rows * size.capacity));
  scorer.score(nullptr, size, {floats_at(device_queries), queries.rows, queries.cols},
               codes_at(keys, size.heads * size.capacity),
               {writable_floats_at(out), queries.rows, size.capacity});
  return from_elements(out.host(), ElementType::float32, queries.rows, size.capacity);
}

TEST(CalibratedScores, AreThoseOfTheDecodedCache) {
  ROTORQUANT_NEEDS_GPU();
  constexpr AttentionSize sizes[] = {
      {1, 1, 1, 8, 1.0F}, {1, 8, 33, 40, 1.0F}, {3, 4, 500, 512, 1.0F}, {2, 3, 1500, 1504, 1.0F}};
  for (const CalibratedCode& code : {scalar_code, trellis_code}) {
    for (const std::int64_t dim : {64, 128}) {
      const Rope ropes[] = {make_rope(dim / 2, RopeLayout::half), make_rope(dim / 2, RopeLayout::interleaved),
                            make_rope(dim / 4, RopeLayout::half), Rope{}};
      for (const int setting : {1, 2, 3, 4, 5, 6, 7, 8}) {
        const int bits = (setting + 1) / 2;
        const bool even = setting % 2 == 0;
        const AttentionSize& size = sizes[static_cast<std::size_t>(bits) - 1];
        const Rope& rope = ropes[static_cast<std::size_t>(bits + dim / 64) % 4];
        SCOPED_TRACE(fmt::format("{} at {} bits, even {}, dim {}, {} x {} queries, {} tokens",
                                 code.kind == CalibratedCodecKind::trellis ? "trellis" : "scalar", bits, even,
                                 dim, size.heads, size.queries_per_head, size.tokens));
        const Keys keys(dim, bits, size.heads, size.capacity, rope, code, even);
        const auto scorer = make_calibrated_scores(keys.codecs, rope, 0);
        const Matrix queries = normal_matrix(size.heads * size.queries_per_head, dim, 23);
        const Matrix scores = scores_of(*scorer, size, queries, DeviceBytes(keys.codes));
        for (std::int64_t row = 0; row < queries.rows; ++row) {
          const double query_norm = std::sqrt(inner_product(queries.row(row), queries.row(row), dim));
          for (std::int64_t t = 0; t < size.tokens; ++t) {
            const float* const key = keys.turned.row(row / size.queries_per_head * size.capacity + t);
            const double norms = query_norm * std::sqrt(inner_product(key, key, dim));
            ASSERT_NEAR(static_cast<double>(scores.row(row)[t]), inner_product(queries.row(row), key, dim),
                        score_tolerance * norms)
                << "query " << row << ", token " << t;
          }
          // Nothing is written behind the last token.
          for (std::int64_t t = size.tokens; t < size.capacity; ++t) {
            const float got = scores.row(row)[t];
            std::uint32_t word = 0;
            std::memcpy(&word, &got, sizeof word);
            ASSERT_EQ(word, 0xA5A5A5A5U) << "query " << row << ", token " << t;
          }
        }
      }
    }
  }
}

// Queries are turned from round to round, and anew every so often: a block meets enough keys for that if
// heads fill the GPU.
TEST(CalibratedScores, KeepTheirPrecisionOverLongContexts) {
  ROTORQUANT_NEEDS_GPU();
  constexpr std::int64_t dim = 64, distinct = 2048, copies = 40, heads = 128;
  const Rope rope = make_rope(dim / 2, RopeLayout::half);
  const Keys keys(dim, 2, 1, distinct, Rope{}, scalar_code);
  const AttentionSize size{heads, 1, distinct * copies, distinct * copies, 1.0F};
  std::vector<std::uint8_t> codes;
  for (std::int64_t i = 0; i < heads * copies; ++i)
    codes.insert(codes.end(), keys.codes.begin(), keys.codes.end());
  const auto scorer = make_calibrated_scores(keys.codecs, rope, 0);
  const Matrix queries = normal_matrix(heads, dim, 23);
  const Matrix scores = scores_of(*scorer, size, queries, DeviceBytes(codes));
  for (std::int64_t t = 5; t < size.tokens; t += 997) {
    Matrix key(1, dim);
    std::copy_n(keys.turned.row(t % distinct), dim, key.row(0));
    const std::int64_t positions[] = {t};
    RopeTable(rope, positions).apply({key.row(0), 1, dim});
    const double norms = std::sqrt(inner_product(queries.row(7), queries.row(7), dim) *
                                   inner_product(key.row(0), key.row(0), dim));
    ASSERT_NEAR(static_cast<double>(scores.row(7)[t]), inner_product(queries.row(7), key.row(0), dim),
                score_tolerance * norms)
        << "token " << t;
  }
}

TEST(CalibratedAttention, IsThatOfTheDecodedCache) {
  ROTORQUANT_NEEDS_GPU();
  DeviceWorkspace workspace;
  constexpr AttentionSize sizes[] = {
      {1, 1, 1, 8, 0.02F}, {1, 8, 33, 40, 0.02F}, {3, 4, 500, 512, 0.02F}, {2, 4, 1500, 1504, 0.05F}};
  for (const std::int64_t dim : {64, 128}) {
    for (const int bits : {2, 3}) {
      const auto value_quantizer = build("rotorquant:codec=trellis:rotation=cascade", bits, dim, 101);
      for (std::size_t i = 0; i < std::size(sizes); ++i) {
        const AttentionSize& size = sizes[i];
        const Rope rope = make_rope(dim / 2, i % 2 == 0 ? RopeLayout::half : RopeLayout::interleaved);
        SCOPED_TRACE(fmt::format("{} bits, dim {}, {} x {} queries, {} tokens", bits, dim, size.heads,
                                 size.queries_per_head, size.tokens));
        const Keys keys(dim, bits, size.heads, size.capacity, rope, i % 3 == 0 ? scalar_code : trellis_code);
        const auto packed = make_calibrated_attention(keys.codecs, rope, value_quantizer, 0);
        const std::int64_t rows = size.heads * size.capacity, heads = size.heads * size.queries_per_head;
        const CodeBuffer value_codes = encode(*value_quantizer, uneven_values(rows, dim));
        const DeviceBytes device_keys(keys.codes);
        const DeviceCodes device_values(value_quantizer->layout(), value_codes);
        Matrix queries = normal_matrix(heads, dim, 23);
        const DeviceBytes device_queries(to_elements(queries, ElementType::float32));
        const DeviceBytes out(static_cast<std::size_t>(4 * heads * dim));
        packed->attend(nullptr, workspace, size, {floats_at(device_queries), heads, dim},
                       codes_at(device_keys, rows), device_values.view(),
                       {writable_floats_at(out), heads, dim});
        const Matrix outputs = from_elements(out.host(), ElementType::float32, heads, dim);
        expect_near(outputs, queries, keys.turned, decode(*value_quantizer, value_codes), size);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(CalibratedAttention, RefusesWhatItHasNoKernelFor) {
  ROTORQUANT_NEEDS_GPU();
  const auto codec = [](std::int64_t dim, CalibratedCode code) {
    return std::vector<std::shared_ptr<const CalibratedCodec>>{std::make_shared<CalibratedCodec>(
        random_parameters(dim, 2, BlockKind::rotor), SequenceAdaptation{}, nearest_search, code)};
  };
  const auto values = [](std::int64_t dim) { return build("rotorquant:codec=trellis", 2, dim, 101); };
  EXPECT_THROW(make_calibrated_attention({}, Rope{}, values(64), 0), Error);
  EXPECT_THROW(make_calibrated_attention(codec(64, {CalibratedCodecKind::trellis, 3}), Rope{}, values(64), 0),
               Error);
  EXPECT_THROW(make_calibrated_attention(codec(64, trellis_code), Rope{}, values(128), 0), Error);
  EXPECT_THROW(make_calibrated_attention(codec(96, trellis_code), Rope{}, values(96), 0), Error);
  EXPECT_THROW(
      make_calibrated_attention(codec(64, trellis_code), make_rope(33, RopeLayout::half), values(64), 0),
      Error);
  EXPECT_THROW(make_calibrated_scores({}, Rope{}, 0), Error);
  std::vector<std::shared_ptr<const CalibratedCodec>> mixed = codec(64, trellis_code);
  mixed.push_back(codec(64, scalar_code)[0]);
  EXPECT_THROW(make_calibrated_scores(mixed, Rope{}, 0), Error);
  auto wide_scales = random_parameters(64, 2, BlockKind::rotor);
  wide_scales->scale = {8, 1, 0};
  EXPECT_THROW(make_calibrated_scores({{std::make_shared<CalibratedCodec>(wide_scales)}}, Rope{}, 0), Error);
  EXPECT_NE(make_calibrated_attention(codec(64, trellis_code), Rope{}, values(64), 0), nullptr);
  EXPECT_NE(make_calibrated_attention(codec(64, scalar_code), Rope{}, values(64), 0), nullptr);
}

}  // namespace
}  // namespace rotorquant::test
