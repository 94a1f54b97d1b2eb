#include "rotorquant/device/launch.cuh"
#include "rotorquant/device/sketch_rows.cuh"

namespace rotorquant::device {
namespace {

// Coordinates or signs that a thread sums at a time.
constexpr int together = 8;
constexpr int query_threads = 128;

// Decodes the thread's row by the first stage. Returns the block's rows; the warp is in step.
__device__ float* decode_stage(const ScalarView& codec, const TileLayout& layout, const Tile& tile,
                               const std::uint8_t* codes, const std::uint8_t* norms, std::int64_t first,
                               int count) {
  const float scale = load_tile(codec, codes, norms, first, count, tile);
  if (static_cast<int>(threadIdx.x) < count) {
    float* const decoded = rotate_back(codec.rotation, tile.row, tile.other);
    for (int c = 0; c < codec.rotation.input_dim; ++c) decoded[c] *= scale;
  }
  __syncwarp();
  return codec.rotation.kind == RotationProgram::Kind::dense ? tile.rows + warp_size * layout.pitch
                                                             : tile.rows;
}

template <typename T>
__global__ void encode_kernel(ScalarView codec, SketchView sketch, const T* x, std::int64_t n,
                              TwoStageArrays<std::uint8_t> codes, unsigned long long* refusals) {
  extern __shared__ float memory[];
  const TileLayout layout(codec);
  const Tile tile(layout, memory);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * warp_size;
  const int count = static_cast<int>(min(static_cast<std::int64_t>(warp_size), n - first));
  float* const rows = decode_stage(codec, layout, tile, codes.indices, codes.norms, first, count);
  for (int r = 0; r < count; ++r) {
    for (int c = threadIdx.x; c < sketch.dim; c += warp_size) {
      float& value = rows[r * layout.pitch + c];
      value = to_float(x[(first + r) * sketch.dim + c]) - value;
    }
  }
  __syncwarp();
  if (static_cast<int>(threadIdx.x) >= count) return;
  const float* const residual = rows + threadIdx.x * layout.pitch;
  const std::int64_t row = first + threadIdx.x;
  const auto norm = static_cast<float>(sqrt(squared_norm_of(residual, sketch.dim)));
  if (codec.norm_type == NormType::fp16 && norm >= half_overflow) refuse(refusals, row, Refusal::residual);
  store_norm_at(codec.norm_type, norm, codes.residual_norms, row);
  for (int begin = 0; begin < sketch.sketch_dim; begin += together) {
    float sums[together] = {};
    for (int c = 0; c < sketch.dim; ++c) {
#pragma unroll
      for (int i = 0; i < together; ++i) {
        if (begin + i < sketch.sketch_dim)
          sums[i] += __ldg(sketch.transposed + static_cast<std::int64_t>(c) * sketch.sketch_dim + begin + i) *
                     residual[c];
      }
    }
    unsigned byte = 0;
#pragma unroll
    for (int i = 0; i < together; ++i) byte |= (sums[i] < 0.0F ? 1U : 0U) << i;
    codes.signs[row * sketch.sign_bytes() + begin / 8] = static_cast<std::uint8_t>(byte);
  }
}

template <typename T>
__global__ void decode_kernel(ScalarView codec, SketchView sketch, TwoStageArrays<const std::uint8_t> codes,
                              std::int64_t n, T* x) {
  extern __shared__ float memory[];
  const TileLayout layout(codec);
  const Tile tile(layout, memory);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * warp_size;
  const int count = static_cast<int>(min(static_cast<std::int64_t>(warp_size), n - first));
  float* const rows = decode_stage(codec, layout, tile, codes.indices, codes.norms, first, count);
  if (static_cast<int>(threadIdx.x) < count) {
    float* const decoded = rows + threadIdx.x * layout.pitch;
    const std::int64_t row = first + threadIdx.x;
    const std::uint8_t* const own = codes.signs + row * sketch.sign_bytes();
    const float magnitude = sketch.factor * load_norm_at(codec.norm_type, codes.residual_norms, row);
    for (int begin = 0; begin < sketch.dim; begin += together) {
      float sums[together] = {};
      for (int k = 0; k < sketch.sketch_dim; ++k) {
        const float sign = (own[k / 8] >> (k % 8) & 1U) != 0 ? -1.0F : 1.0F;
#pragma unroll
        for (int i = 0; i < together; ++i) {
          if (begin + i < sketch.dim)
            sums[i] += __ldg(sketch.matrix + static_cast<std::int64_t>(k) * sketch.dim + begin + i) * sign;
        }
      }
#pragma unroll
      for (int i = 0; i < together; ++i) {
        if (begin + i < sketch.dim) decoded[begin + i] += magnitude * sums[i];
      }
    }
  }
  __syncwarp();
  for (int r = 0; r < count; ++r) {
    for (int c = threadIdx.x; c < sketch.dim; c += warp_size) {
      x[(first + r) * sketch.dim + c] = from_float<T>(rows[r * layout.pitch + c]);
    }
  }
}

__global__ void query_kernel(SketchView sketch, const float* queries, float* sketched) {
  // A kernel that may overlap with this one waits for its end before it takes the results.
  asm volatile("griddepcontrol.launch_dependents;");
  const std::int64_t query = blockIdx.x;
  for (int i = threadIdx.x; i < sketch.sketch_dim; i += query_threads) {
    float sum = 0.0F;
    for (int c = 0; c < sketch.dim; ++c) {
      sum += __ldg(sketch.transposed + static_cast<std::int64_t>(c) * sketch.sketch_dim + i) *
             queries[query * sketch.dim + c];
    }
    sketched[query * sketch.sketch_dim + i] = sum;
  }
}

__global__ void score_kernel(NormType norm_type, SketchView sketch, const float* sketched, std::int64_t m,
                             const std::uint8_t* signs, const std::uint8_t* residual_norms, std::int64_t n,
                             float* scores) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * warp_size + threadIdx.x;
  if (row >= n) return;
  const std::uint8_t* const own = signs + row * sketch.sign_bytes();
  const float magnitude = sketch.factor * load_norm_at(norm_type, residual_norms, row);
  for (std::int64_t i = 0; i < m; ++i) {
    float sum = 0.0F;
    for (int k = 0; k < sketch.sketch_dim; ++k) {
      const float value = __ldg(sketched + i * sketch.sketch_dim + k);
      sum += (own[k / 8] >> (k % 8) & 1U) != 0 ? -value : value;
    }
    scores[i * n + row] += magnitude * sum;
  }
}

}  // namespace

DeviceSketch::DeviceSketch(const QjlSketch& sketch)
    : matrix_(sketch.matrix()),
      transposed_(sketch.transpose()),
      dim_(static_cast<int>(sketch.dim())),
      sketch_dim_(static_cast<int>(sketch.sketch_dim())),
      factor_(sketch.factor()) {}

void encode_residuals(cudaStream_t stream, const ScalarView& codec, const SketchView& sketch,
                      const ConstDeviceTensor& x, const TwoStageArrays<std::uint8_t>& codes,
                      unsigned long long* refusals) {
  dispatch_element(x.type, [&](auto element) {
    using T = decltype(element);
    launch_rows("encode of residuals", encode_kernel<T>, stream, x.rows, TileLayout(codec).bytes(), codec,
                sketch, static_cast<const T*>(x.data), x.rows, codes, refusals);
  });
}

void decode_two_stages(cudaStream_t stream, const ScalarView& codec, const SketchView& sketch,
                       const TwoStageArrays<const std::uint8_t>& codes, const DeviceTensor& x) {
  dispatch_element(x.type, [&](auto element) {
    using T = decltype(element);
    launch_rows("decode", decode_kernel<T>, stream, x.rows, TileLayout(codec).bytes(), codec, sketch, codes,
                x.rows, static_cast<T*>(x.data));
  });
}

void sketch_queries(cudaStream_t stream, const SketchView& sketch, const float* queries, std::int64_t m,
                    float* sketched) {
  if (m == 0) return;
  query_kernel<<<static_cast<unsigned>(m), query_threads, 0, stream>>>(sketch, queries, sketched);
  check_launch("sketch of queries");
}

void add_sketch_scores(cudaStream_t stream, NormType norm_type, const SketchView& sketch,
                       const float* sketched, std::int64_t m, const std::uint8_t* signs,
                       const std::uint8_t* residual_norms, std::int64_t n, float* scores) {
  launch_rows("sketch scores", score_kernel, stream, n, 0, norm_type, sketch, sketched, m, signs,
              residual_norms, n, scores);
}

}  // namespace rotorquant::device
