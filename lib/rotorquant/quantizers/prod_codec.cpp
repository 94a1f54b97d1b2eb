#include "rotorquant/quantizers/prod_codec.hpp"

#include <cmath>
#include <utility>
#include <vector>

#include "rotorquant/codes/bit_planes.hpp"
#include "rotorquant/core/dense_product.hpp"
#include "rotorquant/core/dot_product.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/transpose.hpp"

namespace rotorquant {

ProdCodec::ProdCodec(std::shared_ptr<const ScalarCodec> stage1, QjlSketch sketch)
    : stage1_(std::move(stage1)), sketch_(std::move(sketch)), layout_(stage1_->layout()) {
  sign_array_ = layout_.arrays.size();
  layout_.arrays.push_back(plane_array("signs", FieldKind::sign, sketch_.sketch_dim(), 1));
  residual_array_ = layout_.arrays.size();
  layout_.arrays.push_back(
      number_array("residual_norms", FieldKind::residual_norm, norm_bits(stage1_->norm_type())));
}

void ProdCodec::encode(const Context& context, HostView<const float> x, Codes<Space::cpu> codes) const {
  stage1_->encode(context, x, codes);
  const std::int64_t m = sketch_.sketch_dim();
  parallel_chunks(context, x.rows, vectors_per_block, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t count = end - begin;
    const Codes<Space::cpu> block = slice(codes, begin, count);
    std::vector<float> residuals(static_cast<std::size_t>(count * x.cols));
    std::vector<float> projections(static_cast<std::size_t>(count * m));
    std::vector<std::uint8_t> negative(static_cast<std::size_t>(m));
    stage1_->decode({}, block, {residuals.data(), count, x.cols});
    for (std::int64_t i = 0; i < count * x.cols; ++i) {
      residuals[static_cast<std::size_t>(i)] = x.row(begin)[i] - residuals[static_cast<std::size_t>(i)];
    }
    sketch_.project({residuals.data(), count, x.cols}, {projections.data(), count, m});
    for (std::int64_t r = 0; r < count; ++r) {
      for (std::int64_t i = 0; i < m; ++i) {
        negative[static_cast<std::size_t>(i)] = projections[static_cast<std::size_t>(r * m + i)] < 0.0F;
      }
      pack_planes(negative.data(), m, 1, block.arrays[sign_array_] + r * plane_bytes(m));
      // A residual below the stored type's range rounds to zero, which drops a correction of that size.
      const auto norm = static_cast<float>(std::sqrt(squared_norm(residuals.data() + r * x.cols, x.cols)));
      if (stage1_->norm_type() == NormType::fp16 && norm >= half_overflow) {
        throw Error("encode: row " + std::to_string(begin + r) + " has a residual of norm " +
                    std::to_string(norm) +
                    ", beyond the range of a 16-bit norm; valid: such rows with norm=fp32");
      }
      store_norm(stage1_->norm_type(), norm,
                 block.arrays[residual_array_] + r * layout_.arrays[residual_array_].bytes_per_vector());
    }
  });
}

void ProdCodec::load_signs(ConstCodes<Space::cpu> codes, HostView<float> signs) const {
  std::vector<std::uint8_t> negative(static_cast<std::size_t>(signs.cols));
  for (std::int64_t r = 0; r < codes.count; ++r) {
    unpack_planes(codes.arrays[sign_array_] + r * plane_bytes(signs.cols), signs.cols, 1, negative.data());
    const float norm =
        load_norm(stage1_->norm_type(),
                  codes.arrays[residual_array_] + r * layout_.arrays[residual_array_].bytes_per_vector());
    const float magnitude = sketch_.factor() * norm;
    for (std::int64_t i = 0; i < signs.cols; ++i) {
      signs.row(r)[i] = negative[static_cast<std::size_t>(i)] != 0 ? -magnitude : magnitude;
    }
  }
}

void ProdCodec::decode(const Context& context, ConstCodes<Space::cpu> codes, HostView<float> x) const {
  stage1_->decode(context, codes, x);
  const std::int64_t m = sketch_.sketch_dim();
  parallel_chunks(context, codes.count, vectors_per_block, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t count = end - begin;
    std::vector<float> signs(static_cast<std::size_t>(count * m));
    std::vector<float> corrections(static_cast<std::size_t>(count * x.cols));
    load_signs(slice(codes, begin, count), {signs.data(), count, m});
    sketch_.project_transpose({signs.data(), count, m}, {corrections.data(), count, x.cols});
    for (std::int64_t i = 0; i < count * x.cols; ++i)
      x.row(begin)[i] += corrections[static_cast<std::size_t>(i)];
  });
}

void ProdCodec::score(const Context& context, HostView<const float> queries, ConstCodes<Space::cpu> codes,
                      HostView<float> scores) const {
  stage1_->score(context, queries, codes, scores);
  const std::int64_t m = sketch_.sketch_dim();
  std::vector<float> sketched(static_cast<std::size_t>(queries.rows * m));
  sketch_.project(queries, {sketched.data(), queries.rows, m});
  const std::vector<float> transposed = transpose({sketched.data(), queries.rows, m});
  parallel_chunks(context, codes.count, vectors_per_block, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t count = end - begin;
    std::vector<float> signs(static_cast<std::size_t>(count * m));
    std::vector<float> products(static_cast<std::size_t>(count * queries.rows));
    load_signs(slice(codes, begin, count), {signs.data(), count, m});
    dense_product({signs.data(), count, m}, {transposed.data(), m, queries.rows},
                  {products.data(), count, queries.rows});
    for (std::int64_t i = 0; i < queries.rows; ++i) {
      for (std::int64_t t = 0; t < count; ++t) {
        scores.row(i)[begin + t] += products[static_cast<std::size_t>(t * queries.rows + i)];
      }
    }
  });
}

}  // namespace rotorquant
