#include "evaluation/bench/host_kernels.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "rotorquant/core/elements.hpp"

namespace rotorquant::evaluation {
namespace {

constexpr std::int64_t lanes = 16;  // running sums of a score

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

void score_rows(const Context& context, const float* query, const ConstHostTensor& x, float* scores) {
  constexpr std::int64_t rows_per_chunk = 1024;
  parallel_chunks(context, x.rows, rows_per_chunk, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> values(static_cast<std::size_t>(x.cols));
    for (std::int64_t t = begin; t < end; ++t) {
      load_elements(x.type, x.row(t), x.cols, values.data());
      float sums[lanes] = {};
      std::int64_t c = 0;
      for (; c + lanes <= x.cols; c += lanes) {
        for (std::int64_t lane = 0; lane < lanes; ++lane)
          sums[lane] += values[static_cast<std::size_t>(c + lane)] * query[c + lane];
      }
      for (; c < x.cols; ++c) sums[c % lanes] += values[static_cast<std::size_t>(c)] * query[c];
      float sum = 0.0F;
      for (const float lane : sums) sum += lane;
      scores[t] = sum;
    }
  });
}

}  // namespace rotorquant::evaluation
