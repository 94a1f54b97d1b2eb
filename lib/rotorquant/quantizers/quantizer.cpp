#include "rotorquant/quantizers/quantizer.hpp"

#include <algorithm>
#include <vector>

#include "rotorquant/core/dense_product.hpp"
#include "rotorquant/core/elements.hpp"
#include "rotorquant/core/transpose.hpp"
#include "rotorquant/quantizers/weighted_blocks.hpp"

namespace rotorquant {

std::optional<std::string> Quantizer::unsupported_on(Space space) const {
  if (space == Space::cpu) return std::nullopt;
  return "no CUDA kernels for this quantizer";
}

void Quantizer::encode_tensor(const Context& context, const ConstHostTensor& x,
                              Codes<Space::cpu> codes) const {
  std::vector<float> values(static_cast<std::size_t>(x.rows * x.cols));
  parallel_chunks(context, x.rows, vectors_per_block, [&](std::int64_t begin, std::int64_t end) {
    load_elements(x.type, x.row(begin), (end - begin) * x.cols, values.data() + begin * x.cols);
  });
  encode(context, {values.data(), x.rows, x.cols}, codes);
}

void Quantizer::decode_tensor(const Context& context, ConstCodes<Space::cpu> codes,
                              const HostTensor& x) const {
  parallel_chunks(context, codes.count, vectors_per_block, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t count = end - begin;
    std::vector<float> values(static_cast<std::size_t>(count * x.cols));
    decode({}, slice(codes, begin, count), {values.data(), count, x.cols});
    store_elements(x.type, values.data(), count * x.cols, x.row(begin));
  });
}

void Quantizer::score(const Context& context, HostView<const float> queries, ConstCodes<Space::cpu> codes,
                      HostView<float> scores) const {
  const std::vector<float> transposed = transpose(queries);  // [dim, m]
  parallel_chunks(context, codes.count, vectors_per_block, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t count = end - begin;
    std::vector<float> decoded(static_cast<std::size_t>(count * dim()));
    std::vector<float> products(static_cast<std::size_t>(count * queries.rows));
    decode({}, slice(codes, begin, count), {decoded.data(), count, dim()});
    dense_product({decoded.data(), count, dim()}, {transposed.data(), dim(), queries.rows},
                  {products.data(), count, queries.rows});
    for (std::int64_t i = 0; i < queries.rows; ++i) {
      for (std::int64_t t = 0; t < count; ++t) {
        scores.row(i)[begin + t] = products[static_cast<std::size_t>(t * queries.rows + i)];
      }
    }
  });
}

void Quantizer::weighted_sum(const Context& context, HostView<const float> weights,
                             ConstCodes<Space::cpu> codes, HostView<float> sums) const {
  sum_weighted(context, weights, sums, [&](std::int64_t begin, std::int64_t count, float* x, float* scales) {
    decode({}, slice(codes, begin, count), {x, count, dim()});
    std::fill_n(scales, count, 1.0F);
  });
}

}  // namespace rotorquant
