#include <algorithm>
#include <cmath>
#include <numbers>

#include "rotorquant/device/attention_run.cuh"
#include "rotorquant/device/decoded_attention.cuh"
#include "rotorquant/device/elements.cuh"
#include "rotorquant/device/runtime.cuh"
#include "rotorquant/quantizers/trellis_codec.hpp"

namespace rotorquant::device {
namespace {

// Of decoded keys and values together.
constexpr std::int64_t decoded_bytes = std::int64_t{64} << 20;
// Codes from a multiple of this row on are aligned to 16 bytes, whatever their bytes per vector.
constexpr std::int64_t aligned_rows = 16;
// Tokens that a warp takes at a time: with eight queries, as many sums as it has lanes.
constexpr int tokens_together = warp_size / queries_together;
// A warp that takes fewer tokens than this spends its time on starting and joining.
constexpr std::int64_t least_tokens = 64;

// How a call is cut: parts of `heads` heads and `tokens` tokens are decoded at a time, and each head of a
// part is shared out to `warps` warps.
struct Parts {
  std::int64_t heads;
  std::int64_t tokens;
  std::int64_t parts_per_head;
  std::int64_t warps;

  std::int64_t splits() const { return parts_per_head * warps; }
  // Rows that are decoded for a part, of the keys or of the values.
  std::int64_t rows(const AttentionSize& size) const {
    const std::int64_t used = heads > 1 ? heads * size.capacity : tokens;
    return (used + 2 * aligned_rows - 1) / aligned_rows * aligned_rows;
  }
};

// row_bytes: of a decoded row.
Parts cut(const AttentionSize& size, std::int64_t row_bytes, std::int64_t resident_warps) {
  const std::int64_t rows = decoded_bytes / (2 * row_bytes);
  Parts parts{};
  parts.heads = std::clamp<std::int64_t>(rows / size.capacity, 1, size.heads);
  parts.tokens = parts.heads > 1 ? size.tokens : std::min(rows / aligned_rows * aligned_rows, size.tokens);
  parts.parts_per_head = (size.tokens + parts.tokens - 1) / parts.tokens;
  const std::int64_t most = (parts.tokens + least_tokens - 1) / least_tokens;
  parts.warps = std::clamp<std::int64_t>(resident_warps / parts.heads, 1, most);
  return parts;
}

// Decoded rows of a part: those of head i of it begin `head_rows` rows after those of head i - 1.
struct DecodedRows {
  const void* keys;
  const void* values;
  std::int64_t head_rows;
  std::int64_t first_head;
  std::int64_t first_split;
  std::int64_t tokens;
};

// sums[i] of every lane, i < 32: lane i returns the sum over lanes of sums[i].
__device__ __forceinline__ float transpose_sum(float (&sums)[warp_size]) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
#pragma unroll
  for (int step = 0; step < 5; ++step) {
    const int half = warp_size / 2 >> step;
    const bool upper = (lane & half) != 0;
#pragma unroll
    for (int i = 0; i < warp_size / 2; ++i) {
      if (i >= half) break;
      const float sent = upper ? sums[i] : sums[i + half];
      const float kept = upper ? sums[i + half] : sums[i];
      sums[i] = kept + __shfl_xor_sync(0xFFFFFFFFU, sent, half);
    }
  }
  return sums[0];
}

// A warp takes a range of one head's tokens, coordinates lane, lane + 32, ... of each; `width` of them. Lane
// 4 q + j has the score of query q and token j of those that are taken together.
template <typename Element, int width>
__global__ void __launch_bounds__(attention_threads)
    decoded_attention_kernel(DecodedRows rows, int dim, int warps_per_head, AttentionShape shape,
                             const float* queries, AttentionPartials partials) {
  extern __shared__ float query[];  // [queries_together, dim]
  const std::int64_t head = rows.first_head + blockIdx.y;
  for (int i = static_cast<int>(threadIdx.x); i < queries_together * dim; i += attention_threads) {
    const bool there = i / dim < shape.queries_per_head;
    query[i] = there ? queries[head * shape.queries_per_head * dim + i] : 0.0F;
  }
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int warp = static_cast<int>(blockIdx.x) * attention_warps + static_cast<int>(threadIdx.x) / warp_size;
  if (warp >= warps_per_head) return;
  const std::int64_t per_warp = (rows.tokens + warps_per_head - 1) / warps_per_head;
  const std::int64_t begin = warp * per_warp;
  const std::int64_t end = min(begin + per_warp, rows.tokens);
  const Element* const keys = static_cast<const Element*>(rows.keys) + blockIdx.y * rows.head_rows * dim;
  const Element* const values = static_cast<const Element*>(rows.values) + blockIdx.y * rows.head_rows * dim;

  float output[queries_together][width] = {};
  float maximum = -INFINITY, sum = 0.0F;  // of the lane's query, the sum over the lane's tokens alone
  for (std::int64_t first = begin; first < end; first += tokens_together) {
    float row[tokens_together][width];
    const auto load = [&](const Element* from) {
#pragma unroll
      for (int j = 0; j < tokens_together; ++j) {
        const std::int64_t token = min(first + j, end - 1);
#pragma unroll
        for (int i = 0; i < width; ++i) {
          const int c = lane + warp_size * i;
          row[j][i] = c < dim ? to_float(from[token * dim + c]) : 0.0F;
        }
      }
    };
    load(keys);
    float sums[warp_size] = {};
#pragma unroll
    for (int i = 0; i < width; ++i) {
      const int c = lane + warp_size * i;
#pragma unroll
      for (int q = 0; q < queries_together; ++q) {
        const float x = c < dim ? query[q * dim + c] : 0.0F;
#pragma unroll
        for (int j = 0; j < tokens_together; ++j) sums[q * tokens_together + j] += x * row[j][i];
      }
    }
    load(values);
    const float product = transpose_sum(sums);
    const float score = first + lane % tokens_together < end ? product * shape.scale_log2 : -INFINITY;
    float raised = fmaxf(maximum, score);
#pragma unroll
    for (int step = 1; step < tokens_together; step *= 2)
      raised = fmaxf(raised, __shfl_xor_sync(0xFFFFFFFFU, raised, step));
    if (__any_sync(0xFFFFFFFFU, raised > maximum)) {
      const float factor = exp2f(maximum - raised);
      maximum = raised;
      sum *= factor;
#pragma unroll
      for (int q = 0; q < queries_together; ++q) {
        const float of_query = __shfl_sync(0xFFFFFFFFU, factor, q * tokens_together);
#pragma unroll
        for (int i = 0; i < width; ++i) output[q][i] *= of_query;
      }
    }
    const float weight = exp2f(score - maximum);
    sum += weight;
#pragma unroll
    for (int q = 0; q < queries_together; ++q) {
#pragma unroll
      for (int j = 0; j < tokens_together; ++j) {
        const float of_token = __shfl_sync(0xFFFFFFFFU, weight, q * tokens_together + j);
#pragma unroll
        for (int i = 0; i < width; ++i) output[q][i] += of_token * row[j][i];
      }
    }
  }
#pragma unroll
  for (int step = 1; step < tokens_together; step *= 2) sum += __shfl_xor_sync(0xFFFFFFFFU, sum, step);
  const std::int64_t slot = (head * shape.splits + rows.first_split + warp) * queries_together;
#pragma unroll
  for (int q = 0; q < queries_together; ++q) {
    if (q >= shape.queries_per_head) break;
#pragma unroll
    for (int i = 0; i < width; ++i) {
      const int c = lane + warp_size * i;
      if (c < dim) partials.outputs[(slot + q) * dim + c] = output[q][i];
    }
  }
  if (lane % tokens_together == 0) {
    partials.maxima_and_sums[slot + lane / tokens_together] = make_float2(maximum, sum);
  }
}

using Kernel = void (*)(DecodedRows, int, int, AttentionShape, const float*, AttentionPartials);

template <typename Element>
Kernel kernel_of(std::int64_t dim) {
  if (dim <= 64) return decoded_attention_kernel<Element, 2>;
  if (dim <= 128) return decoded_attention_kernel<Element, 4>;
  if (dim <= 256) return decoded_attention_kernel<Element, 8>;
  return decoded_attention_kernel<Element, 16>;
}

// Whether what it decodes to is within the range of fp16.
bool fits_half(const Quantizer& quantizer) {
  if (const auto* const trellis = dynamic_cast<const TrellisCodec*>(&quantizer)) {
    // A coordinate is at most the norm, which is sqrt(dim) times a root mean square near the scale.
    const auto dim = static_cast<float>(quantizer.dim());
    return 2.0F * trellis->format().scales().back() * std::sqrt(dim) < half_overflow;
  }
  return quantizer.layout().bits_of(FieldKind::norm) == 16;
}

ConstCodes<Space::cuda> codes_from(const CodeLayout& layout, ConstCodes<Space::cuda> codes, std::int64_t row,
                                   std::int64_t count) {
  for (std::size_t a = 0; a < layout.arrays.size(); ++a)
    codes.arrays[a] += row * layout.arrays[a].bytes_per_vector();
  codes.count = count;
  return codes;
}

class DecodedAttention final : public PackedAttention {
 public:
  DecodedAttention(std::shared_ptr<const Quantizer> keys, std::shared_ptr<const Quantizer> values, int gpu)
      : gpu_(gpu),
        type_(fits_half(*keys) && fits_half(*values) ? ElementType::float16 : ElementType::float32),
        keys_(make_device_quantizer(std::move(keys), gpu)),
        values_(make_device_quantizer(std::move(values), gpu)),
        kernel_(type_ == ElementType::float16 ? kernel_of<__half>(keys_->dim())
                                              : kernel_of<float>(keys_->dim())),
        resident_warps_(attention_warps * std::int64_t{resident_blocks("attention over decoded rows", kernel_,
                                                                       attention_threads, shared_bytes())}) {}

  void attend(DeviceStream stream, DeviceWorkspace& workspace, const AttentionSize& size,
              DeviceView<const float> queries, ConstCodes<Space::cuda> keys, ConstCodes<Space::cuda> values,
              DeviceView<float> outputs) const override {
    const CurrentDevice current(gpu_);
    const std::int64_t dim = keys_->dim();
    check_attention_size("attend", size, queries, dim);
    check_shape("attend: outputs", outputs.rows, outputs.cols, queries.rows, dim);
    const std::int64_t row_bytes = dim * element_bytes(type_);
    const Parts parts = cut(size, row_bytes, resident_warps_);
    const std::int64_t decoded = parts.rows(size) * row_bytes;
    const std::int64_t slots = size.heads * parts.splits() * queries_together;
    auto* const scratch = static_cast<std::uint8_t*>(
        workspace.reserve(2 * decoded + slots * (dim + 2) * static_cast<std::int64_t>(sizeof(float))));
    std::uint8_t* const rows[2] = {scratch, scratch + decoded};
    auto* const partial_outputs = reinterpret_cast<float*>(scratch + 2 * decoded);
    const AttentionPartials partials{partial_outputs,
                                     reinterpret_cast<float2*>(partial_outputs + slots * dim)};
    const AttentionShape shape{size.heads,
                               static_cast<int>(size.queries_per_head),
                               size.tokens,
                               (parts.tokens + parts.warps - 1) / parts.warps,
                               static_cast<int>(parts.splits()),
                               size.scale * std::numbers::log2e_v<float>};
    for (std::int64_t head = 0; head < size.heads; head += parts.heads) {
      const std::int64_t heads = std::min(parts.heads, size.heads - head);
      for (std::int64_t part = 0; part < parts.parts_per_head; ++part) {
        const std::int64_t first = part * parts.tokens;
        const std::int64_t tokens = std::min(parts.tokens, size.tokens - first);
        const std::int64_t begin = head * size.capacity + first,
                           aligned = begin / aligned_rows * aligned_rows;
        const std::int64_t end = heads > 1 ? begin + (heads - 1) * size.capacity + tokens : begin + tokens;
        const auto decode = [&](const DeviceQuantizer& quantizer, ConstCodes<Space::cuda> codes, void* to) {
          quantizer.decode(stream, codes_from(quantizer.layout(), codes, aligned, end - aligned),
                           {to, type_, end - aligned, dim});
        };
        decode(*keys_, keys, rows[0]);
        decode(*values_, values, rows[1]);
        const std::int64_t skipped = (begin - aligned) * row_bytes;
        const DecodedRows part_rows{
            rows[0] + skipped, rows[1] + skipped, size.capacity, head, part * parts.warps, tokens};
        const dim3 grid(static_cast<unsigned>((parts.warps + attention_warps - 1) / attention_warps),
                        static_cast<unsigned>(heads));
        kernel_<<<grid, attention_threads, shared_bytes(), stream>>>(
            part_rows, static_cast<int>(dim), static_cast<int>(parts.warps), shape, queries.data, partials);
        check_launch("attention over decoded rows");
      }
    }
    merge_splits(stream, partials, shape, static_cast<int>(dim), 1.0F, nullptr, outputs.data);
  }

 private:
  std::size_t shared_bytes() const {
    return sizeof(float) * queries_together * static_cast<std::size_t>(keys_->dim());
  }

  int gpu_;
  ElementType type_;  // of decoded rows
  std::unique_ptr<DeviceQuantizer> keys_, values_;
  Kernel kernel_;
  std::int64_t resident_warps_;
};

}  // namespace

std::unique_ptr<PackedAttention> make_decoded_attention(std::shared_ptr<const Quantizer> keys,
                                                        std::shared_ptr<const Quantizer> values, int gpu) {
  if (keys->dim() != values->dim()) {
    throw Error("attend: keys of " + std::to_string(keys->dim()) + " coordinates, values of " +
                std::to_string(values->dim()) + "; valid: as many");
  }
  const CurrentDevice current(gpu);
  return std::make_unique<DecodedAttention>(std::move(keys), std::move(values), gpu);
}

}  // namespace rotorquant::device
