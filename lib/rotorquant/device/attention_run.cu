#include "rotorquant/device/attention_run.cuh"

namespace rotorquant::device {
namespace {

// Joins the splits of one query, divides, and rotates back. Block (head, query).
__global__ void merge_kernel(AttentionPartials partials, int splits, int dim, int queries_per_head,
                             float unit, bool rotated, RowRotation::View rotation, float* outputs) {
  extern __shared__ float memory[];
  const std::int64_t head = blockIdx.x;
  const int q = static_cast<int>(blockIdx.y);
  const auto state_of = [&](int split) {
    return partials.maxima_and_sums[(head * splits + split) * queries_together + q];
  };
  float joint = -INFINITY, total = 0.0F;
  for (int split = 0; split < splits; ++split) joint = fmaxf(joint, state_of(split).x);
  for (int split = 0; split < splits; ++split) total += exp2f(state_of(split).x - joint) * state_of(split).y;
  for (int c = static_cast<int>(threadIdx.x); c < dim; c += rotate_threads) {
    float value = 0.0F;
    for (int split = 0; split < splits; ++split) {
      const std::int64_t slot = (head * splits + split) * queries_together;
      value += exp2f(state_of(split).x - joint) * partials.outputs[(slot + q) * dim + c];
    }
    memory[c] = value * unit / total;
  }
  __syncthreads();
  const float* const row = rotated ? rotate_row(rotation, true, memory, memory + dim) : memory;
  for (int c = static_cast<int>(threadIdx.x); c < dim; c += rotate_threads) {
    outputs[(head * queries_per_head + q) * dim + c] = row[c];
  }
}

}  // namespace

void check_attention_size(const char* operation, const AttentionSize& size, DeviceView<const float> queries,
                          std::int64_t dim) {
  if (size.heads < 1 || size.heads > 65535 || size.queries_per_head < 1 ||
      size.queries_per_head > queries_together || size.tokens < 1 || size.tokens > size.capacity ||
      size.capacity % 8 != 0) {
    throw Error(
        std::string(operation) + ": " + std::to_string(size.heads) + " heads of " +
        std::to_string(size.tokens) + " of " + std::to_string(size.capacity) + " tokens, " +
        std::to_string(size.queries_per_head) +
        " queries each; valid: 1 to 65535 heads, 1 to capacity tokens, a capacity that is a multiple of 8, "
        "1 to 8 queries");
  }
  check_shape("queries", queries.rows, queries.cols, size.heads * size.queries_per_head, dim);
}

void merge_splits(cudaStream_t stream, const AttentionPartials& partials, const AttentionShape& shape,
                  int dim, float unit, const RowRotation* rotation, float* outputs) {
  const dim3 grid(static_cast<unsigned>(shape.heads), static_cast<unsigned>(shape.queries_per_head));
  const std::size_t bytes = 2 * sizeof(float) * static_cast<std::size_t>(dim);
  merge_kernel<<<grid, rotate_threads, bytes, stream>>>(
      partials, shape.splits, dim, shape.queries_per_head, unit, rotation != nullptr,
      rotation != nullptr ? rotation->view() : RowRotation::View{}, outputs);
  check_launch("joining of attention");
}

}  // namespace rotorquant::device
