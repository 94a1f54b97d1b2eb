#include "rotorquant/device/elements.cuh"
#include "rotorquant/device/launch.cuh"
#include "rotorquant/device/scalar_rows.cuh"
#include "rotorquant/device/trellis_rows.cuh"

namespace rotorquant::device {
namespace {

// A block's shared memory: rows of floats, then the tile's packed codes.
std::size_t tile_bytes(const TrellisView& t, int rows_of_a_vector) {
  return static_cast<std::size_t>(warp_size) *
         static_cast<std::size_t>(4 * rows_of_a_vector * row_pitch(t.dim) + t.bytes_per_vector);
}

// The decoded coordinates of one vector, the scale included (TrellisCode::decode).
__device__ void decode_vector(const TrellisView& t, const std::uint8_t* code, float* row) {
  const std::uint8_t* const planes = code + trellis_header_bytes;
  const float scale = __ldg(t.scales + code[0]);
  const auto lowest_bit = [&](int c) { return trellis_bit(planes, t.dim - 1 - c); };
  unsigned state = 0;  // of a circle shorter than the register, walked more than once
  for (int i = t.memory; i > 0; --i) state = state << 1 | lowest_bit((t.dim - i % t.dim) % t.dim);
  const unsigned mask = (2U << t.memory) - 1U;
  for (int c = 0; c < t.dim; ++c) {
    state = (state << 1 | lowest_bit(c)) & mask;
    unsigned u = 0;
    for (int k = 1; k < t.bits; ++k) u |= trellis_bit(planes, k * t.dim + c) << (k - 1);
    const unsigned extra = __ldg(t.extra + c);
    int first = t.width[0].first_value;
    if (extra != no_extra_bit) {
      first = t.width[1].first_value;
      u |= ((code[1] >> extra) & 1U) << (t.bits - 1);
    }
    row[c] = __ldg(t.values + first + (u << (t.memory + 1) | state)) * scale;
  }
}

template <typename T>
__global__ void decode_kernel(TrellisView t, RotationView rotation, const std::uint8_t* codes, std::int64_t n,
                              T* x) {
  extern __shared__ float memory[];
  const int pitch = row_pitch(t.dim);
  float* const rows = memory;
  float* const others = rows + warp_size * pitch;
  auto* const packed = reinterpret_cast<std::uint8_t*>(memory + rotation.rows() * warp_size * pitch);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * warp_size;
  const int count = static_cast<int>(min(static_cast<std::int64_t>(warp_size), n - first));
  copy_bytes(codes + first * t.bytes_per_vector, packed,
             static_cast<std::int64_t>(count) * t.bytes_per_vector);
  __syncwarp();
  if (static_cast<int>(threadIdx.x) < count) {
    float* const row = rows + threadIdx.x * pitch;
    decode_vector(t, packed + threadIdx.x * t.bytes_per_vector, row);
    rotate_back(rotation, row, others + threadIdx.x * pitch);
  }
  __syncwarp();
  const float* const decoded = rotation.kind == RotationProgram::Kind::dense ? others : rows;
  for (int r = 0; r < count; ++r) {
    for (int c = static_cast<int>(threadIdx.x); c < t.dim; c += warp_size) {
      x[(first + r) * t.dim + c] = from_float<T>(decoded[r * pitch + c]);
    }
  }
}

__global__ void score_kernel(TrellisView t, const float* rotated_queries, std::int64_t m,
                             const std::uint8_t* codes, std::int64_t n, float* scores) {
  extern __shared__ float memory[];
  const int pitch = row_pitch(t.dim);
  auto* const packed = reinterpret_cast<std::uint8_t*>(memory + warp_size * pitch);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * warp_size;
  const int count = static_cast<int>(min(static_cast<std::int64_t>(warp_size), n - first));
  copy_bytes(codes + first * t.bytes_per_vector, packed,
             static_cast<std::int64_t>(count) * t.bytes_per_vector);
  __syncwarp();
  if (static_cast<int>(threadIdx.x) >= count) return;
  float* const row = memory + threadIdx.x * pitch;
  decode_vector(t, packed + threadIdx.x * t.bytes_per_vector, row);
  for (std::int64_t i = 0; i < m; ++i) {
    float sum = 0.0F;
    for (int c = 0; c < t.dim; ++c) sum += __ldg(rotated_queries + i * t.dim + c) * row[c];
    scores[i * n + first + threadIdx.x] = sum;
  }
}

}  // namespace

void decode_trellis_rows(cudaStream_t stream, const TrellisView& tables, const RotationView& rotation,
                         const std::uint8_t* codes, const DeviceTensor& x) {
  dispatch_element(x.type, [&](auto element) {
    using T = decltype(element);
    launch_rows("decode", decode_kernel<T>, stream, x.rows, tile_bytes(tables, rotation.rows()), tables,
                rotation, codes, x.rows, static_cast<T*>(x.data));
  });
}

void score_trellis_rows(cudaStream_t stream, const TrellisView& tables, const float* rotated_queries,
                        std::int64_t m, const std::uint8_t* codes, std::int64_t n, float* scores) {
  launch_rows("score", score_kernel, stream, n, tile_bytes(tables, 1), tables, rotated_queries, m, codes, n,
              scores);
}

}  // namespace rotorquant::device
