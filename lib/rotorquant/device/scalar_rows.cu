#include "rotorquant/device/launch.cuh"
#include "rotorquant/device/scalar_rows.cuh"

namespace rotorquant::device {
namespace {

// The number stored beside the indices (ScalarCodec::stored_scale): y and its indices are the thread's.
__device__ float stored_scale(const ScalarView& codec, float norm, const float* y, const float* boundaries) {
  if (codec.scale_rule == ScaleRule::norm || norm == 0.0F) return norm;
  double along = 0.0, decoded_sq = 0.0, rotated_sq = 0.0;
  for (int c = 0; c < codec.rotation.output_dim; ++c) {
    const double value = y[c];
    const double decoded = codec.centroids[index_of(boundaries, codec.bits, y[c])];
    along += value * decoded;
    decoded_sq += decoded * decoded;
    rotated_sq += value * value;
  }
  if (along <= 0.0) return norm;
  const double factor = codec.scale_rule == ScaleRule::mse ? along / decoded_sq : rotated_sq / along;
  return static_cast<float>(static_cast<double>(norm) * factor);
}

template <typename T>
__global__ void encode_kernel(ScalarView codec, const T* x, std::int64_t n, std::uint8_t* codes,
                              std::uint8_t* norms, unsigned long long* refusals) {
  extern __shared__ float memory[];
  const TileLayout layout(codec);
  const Tile tile(layout, memory);
  const int dim = codec.rotation.input_dim;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * warp_size;
  const int count = static_cast<int>(min(static_cast<std::int64_t>(warp_size), n - first));
  for (int i = threadIdx.x; i < (1 << codec.bits) - 1; i += warp_size) tile.table[i] = codec.boundaries[i];
  for (int r = 0; r < count; ++r) {
    for (int c = threadIdx.x; c < dim; c += warp_size) {
      tile.rows[r * layout.pitch + c] = to_float(x[(first + r) * dim + c]);
    }
  }
  __syncwarp();
  if (static_cast<int>(threadIdx.x) < count) {
    const std::int64_t row = first + threadIdx.x;
    const float norm = static_cast<float>(sqrt(squared_norm_of(tile.row, dim)));
    const float divisor = codec.scale_rule == ScaleRule::none ? 1.0F : fmaxf(norm, norm_floor);
    for (int c = 0; c < dim; ++c) tile.row[c] = __fdiv_rn(tile.row[c], divisor);
    const float* const y = rotate(codec.rotation, tile.row, tile.other);
    std::uint8_t* const planes = tile.codes + threadIdx.x * codec.code_bytes();
    const int stride = codec.plane_bytes();
    for (int byte = 0; byte < stride; ++byte) {
      unsigned long long planes_of_byte = 0;  // byte j: plane j
      for (int i = 0; i < 8 && 8 * byte + i < codec.rotation.output_dim; ++i) {
        const unsigned index = index_of(tile.table, codec.bits, y[8 * byte + i]);
        for (int j = 0; j < codec.bits; ++j) {
          planes_of_byte |= static_cast<unsigned long long>((index >> j) & 1U) << (8 * j + i);
        }
      }
      for (int j = 0; j < codec.bits; ++j) {
        planes[j * stride + byte] = static_cast<std::uint8_t>(planes_of_byte >> (8 * j));
      }
    }
    if (codec.scale_rule == ScaleRule::none) {
      if (!isfinite(norm)) refuse(refusals, row, Refusal::value);
    } else {
      const float kept = codec.norm_type == NormType::reference ? divisor : norm;
      const float scale = isfinite(norm) ? stored_scale(codec, kept, y, tile.table) : norm;
      check_norm(refusals, codec.norm_type, scale, row);
      store_norm_at(codec.norm_type, scale, norms, row);
    }
  }
  __syncwarp();
  copy_bytes(tile.codes, codes + first * codec.code_bytes(),
             static_cast<std::int64_t>(count) * codec.code_bytes());
}

template <typename T>
__global__ void decode_kernel(ScalarView codec, const std::uint8_t* codes, const std::uint8_t* norms,
                              std::int64_t n, T* x) {
  extern __shared__ float memory[];
  const TileLayout layout(codec);
  const Tile tile(layout, memory);
  const int dim = codec.rotation.input_dim;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * warp_size;
  const int count = static_cast<int>(min(static_cast<std::int64_t>(warp_size), n - first));
  const float scale = load_tile(codec, codes, norms, first, count, tile);
  if (static_cast<int>(threadIdx.x) < count) {
    float* const decoded = rotate_back(codec.rotation, tile.row, tile.other);
    for (int c = 0; c < dim; ++c) decoded[c] *= scale;
  }
  __syncwarp();
  const float* const rows =
      codec.rotation.kind == RotationProgram::Kind::dense ? tile.rows + warp_size * layout.pitch : tile.rows;
  for (int r = 0; r < count; ++r) {
    for (int c = threadIdx.x; c < dim; c += warp_size) {
      x[(first + r) * dim + c] = from_float<T>(rows[r * layout.pitch + c]);
    }
  }
}

__global__ void score_kernel(ScalarView codec, const float* rotated_queries, std::int64_t m,
                             const std::uint8_t* codes, const std::uint8_t* norms, std::int64_t n,
                             float* scores) {
  extern __shared__ float memory[];
  const TileLayout layout(codec);
  const Tile tile(layout, memory);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * warp_size;
  const int count = static_cast<int>(min(static_cast<std::int64_t>(warp_size), n - first));
  const float scale = load_tile(codec, codes, norms, first, count, tile);
  if (static_cast<int>(threadIdx.x) >= count) return;
  const int dim = codec.rotation.output_dim;
  for (std::int64_t i = 0; i < m; ++i) {
    const float* const query = rotated_queries + i * dim;
    float sum = 0.0F;
    for (int c = 0; c < dim; ++c) sum += __ldg(query + c) * tile.row[c];
    scores[i * n + first + threadIdx.x] = sum * scale;
  }
}

}  // namespace

void encode_rows(cudaStream_t stream, const ScalarView& codec, const ConstDeviceTensor& x,
                 std::uint8_t* codes, std::uint8_t* norms, unsigned long long* refusals) {
  dispatch_element(x.type, [&](auto element) {
    using T = decltype(element);
    launch_rows("encode", encode_kernel<T>, stream, x.rows, TileLayout(codec).bytes(), codec,
                static_cast<const T*>(x.data), x.rows, codes, norms, refusals);
  });
}

void decode_rows(cudaStream_t stream, const ScalarView& codec, const std::uint8_t* codes,
                 const std::uint8_t* norms, const DeviceTensor& x) {
  dispatch_element(x.type, [&](auto element) {
    using T = decltype(element);
    launch_rows("decode", decode_kernel<T>, stream, x.rows, TileLayout(codec).bytes(), codec, codes, norms,
                x.rows, static_cast<T*>(x.data));
  });
}

void score_rows(cudaStream_t stream, const ScalarView& codec, const float* rotated_queries, std::int64_t m,
                const std::uint8_t* codes, const std::uint8_t* norms, std::int64_t n, float* scores) {
  launch_rows("score", score_kernel, stream, n, TileLayout(codec).bytes(), codec, rotated_queries, m, codes,
              norms, n, scores);
}

}  // namespace rotorquant::device
