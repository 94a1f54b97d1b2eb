// Attention on the GPU with calibrated keys against float64 attention over the keys that the CPU decodes and turns.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <numeric>

#include "rotorquant/cache/rope.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/device/attention_reference.hpp"
#include "rotorquant/quantizers/calibrated_fixture.hpp"

namespace rotorquant::test {
namespace {

using testing_support::random_keys;
using testing_support::random_parameters;

constexpr CalibratedCode trellis_code{CalibratedCodecKind::trellis, 5};

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

  Keys(std::int64_t dim, int bits, std::int64_t heads, std::int64_t capacity, const Rope& rope)
      : turned(heads * capacity, dim) {
    std::vector<std::int64_t> positions(static_cast<std::size_t>(capacity));
    std::iota(positions.begin(), positions.end(), 0);
    const RopeTable table(rope, positions);
    for (std::int64_t h = 0; h < heads; ++h) {
      const auto seed = static_cast<std::uint64_t>(h + 1);
      const auto parameters = random_parameters(dim, bits, h % 2 == 0 ? BlockKind::general : BlockKind::rotor,
                                                h % 2 == 0 ? 5 : 3, seed);
      const std::vector<float> x = random_keys(*parameters, capacity, 0.3, seed);
      const SequenceAdaptation adaptation = observe_sequence(*parameters, {x.data(), capacity, dim});
      codecs.push_back(
          std::make_shared<CalibratedCodec>(parameters, adaptation, nearest_search, trellis_code));
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

TEST(CalibratedAttention, IsThatOfTheDecodedCache) {
  ROTORQUANT_NEEDS_GPU();
  DeviceWorkspace workspace;
  constexpr AttentionSize sizes[] = {
      {1, 1, 1, 8, 0.02F}, {1, 8, 33, 40, 0.02F}, {3, 4, 500, 512, 0.02F}, {2, 4, 1500, 1504, 0.05F}};
  for (const std::int64_t dim : {64, 128}) {
    const Rope ropes[] = {make_rope(dim / 2, RopeLayout::half), make_rope(dim / 2, RopeLayout::interleaved),
                          make_rope(dim / 4, RopeLayout::half), Rope{}};
    for (const int bits : {2, 3}) {
      const auto value_quantizer = build("rotorquant:codec=trellis:rotation=cascade", bits, dim, 101);
      for (std::size_t i = 0; i < std::size(sizes); ++i) {
        const AttentionSize& size = sizes[i];
        const Rope& rope = ropes[(i + static_cast<std::size_t>(bits)) % 4];
        SCOPED_TRACE(fmt::format("{} bits, dim {}, {} x {} queries, {} tokens", bits, dim, size.heads,
                                 size.queries_per_head, size.tokens));
        const Keys keys(dim, bits, size.heads, size.capacity, rope);
        const auto packed = make_calibrated_attention(keys.codecs, rope, value_quantizer, 0);
        const std::int64_t rows = size.heads * size.capacity, heads = size.heads * size.queries_per_head;
        const CodeBuffer value_codes = encode(*value_quantizer, uneven_values(rows, dim));
        const DeviceBytes device_keys(keys.codes);
        const DeviceCodes device_values(value_quantizer->layout(), value_codes);
        Matrix queries = normal_matrix(heads, dim, 23);
        const DeviceBytes device_queries(to_elements(queries, ElementType::float32));
        const DeviceBytes out(static_cast<std::size_t>(4 * heads * dim));
        Codes<Space::cuda> key_codes;
        key_codes.arrays[0] = device_keys.data();
        key_codes.count = rows;
        packed->attend(nullptr, workspace, size,
                       {reinterpret_cast<const float*>(device_queries.data()), heads, dim}, key_codes,
                       device_values.view(), {reinterpret_cast<float*>(out.data()), heads, dim});
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
  EXPECT_THROW(make_calibrated_attention(codec(64, {}), Rope{}, values(64), 0), Error);
  EXPECT_THROW(make_calibrated_attention(codec(64, {CalibratedCodecKind::trellis, 3}), Rope{}, values(64), 0),
               Error);
  EXPECT_THROW(make_calibrated_attention(codec(64, trellis_code), Rope{}, values(128), 0), Error);
  EXPECT_THROW(make_calibrated_attention(codec(96, trellis_code), Rope{}, values(96), 0), Error);
  EXPECT_THROW(
      make_calibrated_attention(codec(64, trellis_code), make_rope(33, RopeLayout::half), values(64), 0),
      Error);
  EXPECT_NE(make_calibrated_attention(codec(64, trellis_code), Rope{}, values(64), 0), nullptr);
}

}  // namespace
}  // namespace rotorquant::test
