#include <optional>

#include "rotorquant/device/launch.cuh"
#include "rotorquant/device/magnitude_planes.cuh"
#include "rotorquant/device/plane_scores.cuh"
#include "rotorquant/device/refusals.cuh"
#include "rotorquant/device/register_rows.cuh"
#include "rotorquant/device/register_turns.cuh"
#include "rotorquant/device/rotor_encoder.cuh"
#include "rotorquant/device/warp_tile.cuh"

namespace rotorquant::device {
namespace {

template <int D>
struct RotorEncode {
  typename RotorTurn<D>::Parameters rotors;
  int bits;
  float threshold[4];  // [k], k >= 1: the positive boundaries, ascending
  const uint4* x;
  std::int64_t n;
  std::uint8_t* codes;
  __half* norms;
  unsigned long long* refusals;
};

// A vector as it is stored, two numbers a word.
template <typename T, int D>
struct PackedRow {
  std::uint32_t word[D / 2];

  __device__ __forceinline__ float operator()(int c) const { return unpack<T>(word[c / 2], c % 2 != 0); }
  // Reads the row and returns its norm.
  __device__ __forceinline__ float load(const uint4* row) {
    float sums[8] = {};
#pragma unroll
    for (int chunk = 0; chunk < D / 8; ++chunk) {
      const uint4 four = row[chunk];
      word[4 * chunk] = four.x, word[4 * chunk + 1] = four.y;
      word[4 * chunk + 2] = four.z, word[4 * chunk + 3] = four.w;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const float x = (*this)(8 * chunk + i);
        sums[i] = fmaf(x, x, sums[i]);
      }
    }
    // Keeps the compiler from holding on to 128 conversions where converting again is cheaper than the registers.
#pragma unroll
    for (int i = 0; i < D / 2; ++i) asm volatile("" : "+r"(word[i]));
    return sqrtf(((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7])));
  }
};

// The norm as the CPU has it, in float64: where the float32 sum leaves its 16-bit form in doubt.
template <typename T, int D>
__device__ __forceinline__ float exact_norm(const uint4* row) {
  double sums[4] = {};
#pragma unroll 2
  for (int chunk = 0; chunk < D / 8; ++chunk) {
    const uint4 four = row[chunk];
    const std::uint32_t word[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const double first = unpack<T>(word[i], false), second = unpack<T>(word[i], true);
      sums[i] = fma(first, first, fma(second, second, sums[i]));
    }
  }
  return static_cast<float>(sqrt((sums[0] + sums[2]) + (sums[1] + sums[3])));
}

// A bound on the relative error of the float32 norm: each of its eight sums has dim / 8 <= 16 rounded additions, three more
// join them, and the root halves what they add up to.
inline constexpr float norm_uncertainty = (16 + 3) * 0x1p-25F + 0x1p-23F;

template <int D, typename T, int bits>
__device__ __forceinline__ void encode_tile(const RotorEncode<D>& p, const PackedRow<T, D>& x, float norm,
                                            std::int64_t tile, int count, std::uint8_t* staging) {
  constexpr int row_bytes = PlaneWords<D, bits>::row_bytes;
  float threshold[1 << (bits - 1)];
#pragma unroll
  for (int k = 1; k < 1 << (bits - 1); ++k) {
    // Above the trifles that stand for zeros in a vector of zeros.
    threshold[k] = fmaxf(p.threshold[k] * norm, 1e-30F);
  }
  PlaneBuilder<D, bits> planes(threshold);
  RotorTurn<D>::forward(x, p.rotors, [&](int c, float z) { planes.push(c, z); });
  planes.write(staging + static_cast<int>(threadIdx.x % warp_size) * row_bytes);
  __syncwarp();
  PackedTile<row_bytes>::store(staging, p.codes + tile * PackedTile<row_bytes>::bytes, count);
}

// Where a block's shared memory goes: for each warp a tile of rows and one of codes.
template <int D>
struct WarpMemory {
  static constexpr int row_bytes = RowTile<D / 8>::bytes;
  static constexpr int bytes = row_bytes + PackedTile<PlaneWords<D, 3>::row_bytes>::bytes;
};

template <int D, typename T>
__global__ void __launch_bounds__(register_threads, RotorTurn<D>::encode_blocks)
    rotor_encode_kernel(const __grid_constant__ RotorEncode<D> p) {
  using Rows = RowTile<D / 8>;
  extern __shared__ uint4 shared[];
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  uint4* const rows = shared + warp * (WarpMemory<D>::bytes / 16);
  auto* const staging = reinterpret_cast<std::uint8_t*>(rows) + WarpMemory<D>::row_bytes;
  const std::int64_t tiles = (p.n + warp_size - 1) / warp_size;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * register_warps;
  const auto count_of = [&](std::int64_t tile) {
    return static_cast<int>(min(static_cast<std::int64_t>(warp_size), p.n - tile * warp_size));
  };
  std::int64_t tile = static_cast<std::int64_t>(blockIdx.x) * register_warps + warp;
  if (tile < tiles) Rows::fetch(rows, p.x + tile * (warp_size * D / 8), count_of(tile));
  for (; tile < tiles; tile += stride) {
    wait_for_copies<0>();
    __syncwarp();
    const int count = count_of(tile);
    const uint4* const row = rows + lane * Rows::pitch;
    PackedRow<T, D> x;
    float norm = x.load(row);
    if (__hne(__float2half_rn(norm * (1.0F - norm_uncertainty)),
              __float2half_rn(norm * (1.0F + norm_uncertainty)))) {
      norm = exact_norm<T, D>(row);
    }
    __syncwarp();
    const std::int64_t next = tile + stride;
    if (next < tiles) Rows::fetch(rows, p.x + next * (warp_size * D / 8), count_of(next));
    if (lane < count) {
      p.norms[tile * warp_size + lane] = __float2half_rn(norm);
      check_norm(p.refusals, NormType::fp16, norm, tile * warp_size + lane);
    }
    if (p.bits == 2) {
      encode_tile<D, T, 2>(p, x, norm, tile, count, staging);
    } else {
      encode_tile<D, T, 3>(p, x, norm, tile, count, staging);
    }
  }
}

template <int D>
class RotorEncoderOf final : public RotorEncoder {
 public:
  static std::unique_ptr<RotorEncoder> of(const ScalarCodec& codec) {
    const auto rotors = RotorTurn<D>::parameters(codec.rotation().program());
    if (!rotors) return nullptr;
    return std::unique_ptr<RotorEncoder>(new RotorEncoderOf(*rotors, codec.codebook()));
  }

  void encode(cudaStream_t stream, const void* x, ElementType type, std::int64_t n, std::uint8_t* codes,
              std::uint8_t* norms, unsigned long long* refusals) const override {
    if (n == 0) return;
    const auto kernel =
        type == ElementType::float16 ? rotor_encode_kernel<D, __half> : rotor_encode_kernel<D, __nv_bfloat16>;
    RotorEncode<D> arguments = arguments_;
    arguments.x = static_cast<const uint4*>(x);
    arguments.n = n;
    arguments.codes = codes;
    arguments.norms = reinterpret_cast<__half*>(norms);
    arguments.refusals = refusals;
    const std::int64_t needed = (n + register_threads - 1) / register_threads;
    kernel<<<static_cast<unsigned>(needed < blocks_ ? needed : blocks_), register_threads, shared_bytes,
             stream>>>(arguments);
    check_launch("encode");
  }

 private:
  static constexpr std::size_t shared_bytes = register_warps * WarpMemory<D>::bytes;

  RotorEncoderOf(const typename RotorTurn<D>::Parameters& rotors, const Codebook& codebook)
      : arguments_{rotors, codebook.bits(), {}, nullptr, 0, nullptr, nullptr, nullptr} {
    const std::size_t half = codebook.centroids.size() / 2;
    for (std::size_t k = 1; k < half; ++k) arguments_.threshold[k] = codebook.boundaries[half - 1 + k];
    // The kernels of both types take the same registers and shared memory.
    allow_shared_memory("encode", rotor_encode_kernel<D, __nv_bfloat16>, shared_bytes);
    blocks_ = resident_blocks("encode", rotor_encode_kernel<D, __half>, register_threads, shared_bytes);
  }

  RotorEncode<D> arguments_;  // but for what a call gives
  int blocks_;                // that the GPU holds at a time
};

}  // namespace

std::unique_ptr<RotorEncoder> make_rotor_encoder(const ScalarCodec& codec) {
  const int bits = codec.codebook().bits();
  if (bits < 2 || bits > 3 || codec.norm_type() != NormType::fp16 || codec.scale_rule() != ScaleRule::norm ||
      !is_symmetric(codec.codebook())) {
    return nullptr;
  }
  switch (codec.dim()) {
    case 80:
      return RotorEncoderOf<80>::of(codec);
    case 96:
      return RotorEncoderOf<96>::of(codec);
    case 128:
      return RotorEncoderOf<128>::of(codec);
    default:
      return nullptr;
  }
}

}  // namespace rotorquant::device
