#include "evaluation/bench/host_kernels.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "evaluation/bench/element_scores_avx2.hpp"
#include "rotorquant/core/elements.hpp"
#include "rotorquant/core/isa.hpp"
#include "rotorquant/core/scratch.hpp"
#include "rotorquant/quantizers/scalar_kernels.hpp"
#include "rotorquant/quantizers/weighted_blocks.hpp"

namespace rotorquant::evaluation {
namespace {

constexpr std::int64_t rows_together = 8;  // converted at a time: they stay in the first-level cache

// body(begin, end) once for each thread, on pieces of whole cache lines.
template <typename Body>
void split_bytes(const Context& context, std::int64_t bytes, const Body& body) {
  constexpr std::int64_t line = 64;
  const std::int64_t lines = (bytes + line - 1) / line;
  const std::int64_t piece = (lines + context.threads - 1) / context.threads * line;
  parallel_for(context, context.threads, [&](std::int64_t thread) {
    const std::int64_t begin = std::min(bytes, thread * piece);
    body(thread, begin, std::min(bytes, begin + piece));
  });
}

}  // namespace

void copy_memory(const Context& context, const std::uint8_t* from, std::uint8_t* to, std::int64_t bytes) {
  split_bytes(context, bytes, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
    std::memcpy(to + begin, from + begin, static_cast<std::size_t>(end - begin));
  });
}

std::uint64_t read_memory(const Context& context, const std::uint8_t* from, std::int64_t bytes) {
  std::vector<std::uint64_t> sums(static_cast<std::size_t>(context.threads));
  split_bytes(context, bytes, [&](std::int64_t thread, std::int64_t begin, std::int64_t end) {
    std::uint64_t sum = 0;
    for (std::int64_t i = begin; i + 8 <= end; i += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, from + i, sizeof word);
      sum += word;
    }
    sums[static_cast<std::size_t>(thread)] = sum;
  });
  std::uint64_t total = 0;
  for (const std::uint64_t sum : sums) total += sum;
  return total;
}

void score_rows(const Context& context, HostView<const float> queries, const ConstHostTensor& x,
                HostView<float> scores) {
  constexpr std::int64_t rows_per_chunk = 1024;
  const ScalarKernels& kernels = scalar_kernels(active_isa());
  parallel_chunks(context, x.rows, rows_per_chunk, [&](std::int64_t begin, std::int64_t end) {
#if defined(__x86_64__)
    if (active_isa() == Isa::avx2) {
      return score_elements_avx2(queries, x.row_range(begin, end - begin),
                                 {scores.data + begin, scores.cols});
    }
#endif
    static thread_local ScratchFloats value_scratch;
    float* values = value_scratch.reserve(rows_together * x.cols);
    const float ones[rows_together] = {1.0F, 1.0F, 1.0F, 1.0F, 1.0F, 1.0F, 1.0F, 1.0F};
    for (std::int64_t t = begin; t < end; t += rows_together) {
      const std::int64_t rows = std::min(rows_together, end - t);
      load_elements(x.type, x.row(t), rows * x.cols, values);
      kernels.score({queries.data, queries.rows, x.cols, x.cols}, values, ones, rows,
                    {scores.data + t, scores.cols});
    }
  });
}

void sum_rows(const Context& context, HostView<const float> weights, const ConstHostTensor& x,
              HostView<float> sums) {
  sum_weighted(context, weights, sums,
               [&](std::int64_t begin, std::int64_t count, float* values, float* scales) {
                 load_elements(x.type, x.row(begin), count * x.cols, values);
                 std::fill_n(scales, count, 1.0F);
               });
}

}  // namespace rotorquant::evaluation
