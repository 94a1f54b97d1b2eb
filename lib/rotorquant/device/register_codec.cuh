#pragma once
// The fast path of scalar codecs: a thread holds a whole vector in registers, so that each byte is read and written
// once and rotation, norm, quantization and packing cost issue slots alone. A warp works on 32 rows; the next tile's
// rows are on their way while this one's are computed.
//
// For fp16 and bf16 rows, dims of the list in each .cu file, 2 to 4 bits, a codebook symmetric about 0 and the norm
// stored in fp16. Everything else takes the general path (scalar_rows.cuh).
#include <cstring>
#include <memory>
#include <optional>

#include "rotorquant/device/elements.cuh"
#include "rotorquant/device/launch.cuh"
#include "rotorquant/device/refusals.cuh"
#include "rotorquant/device/register_planes.cuh"
#include "rotorquant/device/register_turns.cuh"
#include "rotorquant/device/warp_tile.cuh"
#include "rotorquant/quantizers/scalar_codec.hpp"

namespace rotorquant::device {

class RegisterCodec {
 public:
  virtual ~RegisterCodec() = default;
  // type: float16 or bfloat16. x [n, dim], 16-byte aligned like the codes.
  virtual void encode(cudaStream_t stream, const void* x, ElementType type, std::int64_t n,
                      std::uint8_t* codes, std::uint8_t* norms, unsigned long long* refusals) const = 0;
  virtual void decode(cudaStream_t stream, const std::uint8_t* codes, const std::uint8_t* norms,
                      std::int64_t n, void* x, ElementType type) const = 0;
};

// nullptr where this fast path does not apply.
std::unique_ptr<RegisterCodec> make_block_register_codec(const ScalarCodec& codec);
std::unique_ptr<RegisterCodec> make_cascade_register_codec(const ScalarCodec& codec);
std::unique_ptr<RegisterCodec> make_hadamard_register_codec(const ScalarCodec& codec);

// Tables of a codebook symmetric about 0; nothing if it is not, or has other than 2 to 4 bits.
struct SymmetricCodebook {
  int bits;
  float threshold[8];  // [k], k >= 1: the positive boundaries, ascending
  CentroidBytes centroids;

  static std::optional<SymmetricCodebook> of(const Codebook& codebook);
};

inline constexpr int register_warps = 4;  // a block
inline constexpr int register_threads = register_warps * warp_size;

template <typename Turn>
struct RegisterEncode {
  typename Turn::Parameters turn;
  SymmetricCodebook codebook;
  const uint4* x;
  std::int64_t n;
  std::uint8_t* codes;
  __half* norms;
  unsigned long long* refusals;
};

template <typename Turn>
struct RegisterDecode {
  typename Turn::Parameters turn;
  SymmetricCodebook codebook;
  const std::uint8_t* codes;
  const __half* norms;
  std::int64_t n;
  uint4* x;
};

// The lower or upper 16-bit number of a word as float32.
template <typename T>
__device__ __forceinline__ float unpack(std::uint32_t word, bool upper) {
  if constexpr (std::is_same_v<T, __half>) {
    const __half2 pair = *reinterpret_cast<const __half2*>(&word);
    return upper ? __high2float(pair) : __low2float(pair);
  } else {
    return __uint_as_float(upper ? word & 0xFFFF0000U : word << 16);
  }
}
template <typename T>
__device__ __forceinline__ std::uint32_t pack(float first, float second) {
  if constexpr (std::is_same_v<T, __half>) {
    const __half2 pair = __floats2half2_rn(first, second);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
  } else {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
  }
}

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

template <typename Turn, typename T, int bits>
__device__ __forceinline__ void encode_registers(const RegisterEncode<Turn>& p,
                                                 const PackedRow<T, Turn::dim>& x, float norm,
                                                 std::int64_t tile, int count, std::uint8_t* staging) {
  constexpr int D = Turn::dim;
  constexpr int row_bytes = PlaneWords<D, bits>::row_bytes;
  float threshold[1 << (bits - 1)];
#pragma unroll
  for (int k = 1; k < 1 << (bits - 1); ++k) {
    // Above the trifles that stand for zeros in a vector of zeros.
    threshold[k] = fmaxf(p.codebook.threshold[k] * norm * Turn::forward_scale, 1e-30F);
  }
  PlaneBuilder<D, bits> planes(threshold);
  Turn::forward(x, p.turn, [&](int c, float z) { planes.push(c, z); });
  planes.write(staging + static_cast<int>(threadIdx.x % warp_size) * row_bytes);
  __syncwarp();
  PackedTile<row_bytes>::store(staging, p.codes + tile * PackedTile<row_bytes>::bytes, count);
}

// Where a block's shared memory goes: for each warp a tile of rows and one of codes.
template <int D>
struct WarpMemory {
  static constexpr int row_bytes = RowTile<D / 8>::bytes;
  static constexpr int bytes = row_bytes + PackedTile<PlaneWords<D, 4>::row_bytes>::bytes;
};

template <typename Turn, typename T>
__global__ void __launch_bounds__(register_threads, Turn::encode_blocks)
    register_encode_kernel(const __grid_constant__ RegisterEncode<Turn> p) {
  constexpr int D = Turn::dim;
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
    switch (p.codebook.bits) {
      case 2:
        encode_registers<Turn, T, 2>(p, x, norm, tile, count, staging);
        break;
      case 3:
        encode_registers<Turn, T, 3>(p, x, norm, tile, count, staging);
        break;
      default:
        encode_registers<Turn, T, 4>(p, x, norm, tile, count, staging);
        break;
    }
  }
}

template <typename Turn, typename T>
__global__ void __launch_bounds__(register_threads, Turn::decode_blocks)
    register_decode_kernel(const __grid_constant__ RegisterDecode<Turn> p) {
  constexpr int D = Turn::dim;
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
  const auto fetch = [&](std::int64_t tile) {
    const int count = count_of(tile);
    switch (p.codebook.bits) {
      case 2:
        PackedTile<D / 4>::fetch(staging, p.codes + tile * (8 * D), count);
        break;
      case 3:
        PackedTile<3 * D / 8>::fetch(staging, p.codes + tile * (12 * D), count);
        break;
      default:
        PackedTile<D / 2>::fetch(staging, p.codes + tile * (16 * D), count);
        break;
    }
  };
  std::int64_t tile = static_cast<std::int64_t>(blockIdx.x) * register_warps + warp;
  if (tile < tiles) fetch(tile);
  for (; tile < tiles; tile += stride) {
    const int count = count_of(tile);
    const float norm = lane < count ? __half2float(p.norms[tile * warp_size + lane]) : 0.0F;
    wait_for_copies<0>();
    __syncwarp();
    PlaneWords<D, 4> codes;
    codes.read(staging + lane * (p.codebook.bits * D / 8), p.codebook.bits);
    __syncwarp();
    if (tile + stride < tiles) fetch(tile + stride);
    const float scale = norm / Turn::backward_scale;
    uint4* const row = rows + lane * Rows::pitch;
    Turn::backward(
        [&](int w, float(&x)[D]) {
          switch (p.codebook.bits) {
            case 2:
              return look_up_word<D, 2>(codes, p.codebook.centroids, w, x);
            case 3:
              return look_up_word<D, 3>(codes, p.codebook.centroids, w, x);
            default:
              return look_up_word<D, 4>(codes, p.codebook.centroids, w, x);
          }
        },
        p.turn,
        [&](int chunk, const float(&x)[D]) {
          std::uint32_t word[4];
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            word[i] = pack<T>(x[8 * chunk + 2 * i] * scale, x[8 * chunk + 2 * i + 1] * scale);
          }
          row[chunk] = make_uint4(word[0], word[1], word[2], word[3]);
        });
    __syncwarp();
    Rows::store(rows, p.x + tile * (warp_size * D / 8), count);
  }
}

template <typename Turn>
class TurnRegisterCodec final : public RegisterCodec {
 public:
  static std::unique_ptr<RegisterCodec> of(const ScalarCodec& codec) {
    const std::optional<SymmetricCodebook> codebook = SymmetricCodebook::of(codec.codebook());
    const RotationProgram program = codec.rotation().program();
    auto forward = Turn::forward_parameters(program);
    auto backward = Turn::backward_parameters(program);
    if (!codebook || !forward || !backward || codec.norm_type() != NormType::fp16 ||
        codec.scale_rule() != ScaleRule::norm) {
      return nullptr;
    }
    return std::unique_ptr<RegisterCodec>(new TurnRegisterCodec(*codebook, *forward, *backward));
  }

  void encode(cudaStream_t stream, const void* x, ElementType type, std::int64_t n, std::uint8_t* codes,
              std::uint8_t* norms, unsigned long long* refusals) const override {
    if (n == 0) return;
    const auto kernel = type == ElementType::float16 ? register_encode_kernel<Turn, __half>
                                                     : register_encode_kernel<Turn, __nv_bfloat16>;
    kernel<<<grid(n, encode_blocks_), register_threads, shared_bytes, stream>>>(
        {forward_, codebook_, static_cast<const uint4*>(x), n, codes, reinterpret_cast<__half*>(norms),
         refusals});
    check_launch("encode");
  }
  void decode(cudaStream_t stream, const std::uint8_t* codes, const std::uint8_t* norms, std::int64_t n,
              void* x, ElementType type) const override {
    if (n == 0) return;
    const auto kernel = type == ElementType::float16 ? register_decode_kernel<Turn, __half>
                                                     : register_decode_kernel<Turn, __nv_bfloat16>;
    kernel<<<grid(n, decode_blocks_), register_threads, shared_bytes, stream>>>(
        {backward_, codebook_, codes, reinterpret_cast<const __half*>(norms), n, static_cast<uint4*>(x)});
    check_launch("decode");
  }

 private:
  static constexpr std::size_t shared_bytes = register_warps * WarpMemory<Turn::dim>::bytes;

  TurnRegisterCodec(const SymmetricCodebook& codebook, const typename Turn::Parameters& forward,
                    const typename Turn::Parameters& backward)
      : codebook_(codebook), forward_(forward), backward_(backward) {
    // The kernels of both types take the same registers and shared memory.
    allow_shared_memory("encode", register_encode_kernel<Turn, __nv_bfloat16>, shared_bytes);
    allow_shared_memory("decode", register_decode_kernel<Turn, __nv_bfloat16>, shared_bytes);
    encode_blocks_ =
        resident_blocks("encode", register_encode_kernel<Turn, __half>, register_threads, shared_bytes);
    decode_blocks_ =
        resident_blocks("decode", register_decode_kernel<Turn, __half>, register_threads, shared_bytes);
  }

  static unsigned grid(std::int64_t n, int blocks) {
    const std::int64_t needed = (n + register_threads - 1) / register_threads;
    return static_cast<unsigned>(needed < blocks ? needed : blocks);
  }

  SymmetricCodebook codebook_;
  typename Turn::Parameters forward_, backward_;
  int encode_blocks_ = 0, decode_blocks_ = 0;  // that the GPU holds at a time
};

}  // namespace rotorquant::device
