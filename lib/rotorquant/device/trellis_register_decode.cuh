#pragma once
// The fast decoder of trellis codes: a thread holds a whole vector in registers, as in rotor_encoder.cu, and looks up two
// neighbouring coordinates at a time.
//
// Coordinates t and t + 1, t even, are decided by seven bits of plane 0 (the registers of the two overlap in all but one) and
// two bits of each other plane: a table in shared memory of half2 for every such string of bits, in which the levels, multiples
// of 1/32 below 4, are exact. The eight coordinates that have one more bit are looked up again in a table of their own.
//
// For fp16 and bf16 rows, memory 5, 2 and 3 bits, and the rotations and dims listed in each .cu file. Everything else takes
// the general path (trellis_rows.cuh).
#include <memory>
#include <optional>

#include "rotorquant/device/launch.cuh"
#include "rotorquant/device/register_rows.cuh"
#include "rotorquant/device/register_turns.cuh"
#include "rotorquant/device/trellis_fragments.cuh"
#include "rotorquant/device/warp_tile.cuh"
#include "rotorquant/quantizers/trellis_codec.hpp"

namespace rotorquant::device {

class TrellisRegisterDecoder {
 public:
  virtual ~TrellisRegisterDecoder() = default;
  // type: float16 or bfloat16. x [n, dim], 16-byte aligned like the codes.
  virtual void decode(cudaStream_t stream, const std::uint8_t* codes, std::int64_t n, void* x,
                      ElementType type) const = 0;
};

// nullptr where this fast path does not apply.
std::unique_ptr<TrellisRegisterDecoder> make_block_trellis_decoder(const TrellisCodec& codec);
std::unique_ptr<TrellisRegisterDecoder> make_cascade_trellis_decoder(const TrellisCodec& codec);

template <int bits>
struct TrellisPairTables {
  static constexpr int wide = 1 << (6 + bits);
  std::uint32_t pair[trellis_pairs<bits>];  // in fp16, the first coordinate in the lower half
  // Of the wider symbols; index = u << 6 | r.
  std::uint16_t single[wide];
  float scale[256];
};

// The tables of a value format of memory 5.
template <int bits>
TrellisPairTables<bits> make_pair_tables(const TrellisValueFormat& format);
extern template TrellisPairTables<2> make_pair_tables<2>(const TrellisValueFormat& format);
extern template TrellisPairTables<3> make_pair_tables<3>(const TrellisValueFormat& format);

template <typename Turn, int bits>
struct TrellisDecode {
  typename Turn::Parameters turn;
  const TrellisPairTables<bits>* tables;
  const std::uint8_t* codes;
  std::int64_t n;
  uint4* x;
};

// Planes of one vector as words; plane 0 has its first bits once more behind its last.
template <int D, int bits>
struct TrellisWords {
  static constexpr int words = D / 32;
  static constexpr int row_bytes = trellis_header_bytes + bits * D / 8;
  static_assert(row_bytes % 4 == 2);  // every other row begins in the middle of a word

  std::uint32_t header;  // scale code, bits of wider symbols
  std::uint32_t string[words + 1];
  std::uint32_t plane[bits - 1][words];

  // tile: packed rows from a multiple of 4 bytes on.
  __device__ __forceinline__ void read(const std::uint8_t* tile, int row) {
    const auto* const in = reinterpret_cast<const std::uint32_t*>(tile + (row * row_bytes & ~3));
    const int shift = row % 2 == 0 ? 16 : 32;  // to the first bit of the planes
    std::uint32_t word = in[0];
    header = word >> (shift - 16);
    const auto next = [&](int i) {
      const std::uint32_t before = word;
      word = in[i + 1];
      return __funnelshift_rc(before, word, static_cast<unsigned>(shift));
    };
#pragma unroll
    for (int w = 0; w < words; ++w) string[w] = next(w);
    string[words] = string[0];
#pragma unroll
    for (int k = 0; k < bits - 1; ++k) {
#pragma unroll
      for (int w = 0; w < words; ++w) plane[k][w] = next(words * (k + 1) + w);
    }
  }

  // Bits from `bit` on of the circular plane 0, shifted to bit `to`.
  __device__ __forceinline__ std::uint32_t window(int bit, int to) const {
    const int word = bit / 32, at = bit % 32;
    if (at + pair_window_bits > 32) return __funnelshift_r(string[word], string[word + 1], at) << to;
    return at >= to ? string[word] >> (at - to) : string[word] << (to - at);
  }
};

template <int D, int bits>
__device__ __forceinline__ void look_up_pairs(const TrellisWords<D, bits>& code,
                                              const TrellisPairTables<bits>& tables, int w, float (&x)[D]) {
  // Nibbles (3 bits) or pairs (2 bits) with the upper bits of coordinates t and t + 1: at t for t mod 4 = 0 and t - 2 for 2.
  std::uint32_t upper[2];
  if constexpr (bits == 3) {
    constexpr std::uint32_t low = 0x33333333U;
    upper[0] = (code.plane[0][w] & low) | ((code.plane[1][w] << 2) & ~low);
    upper[1] = ((code.plane[0][w] >> 2) & low) | (code.plane[1][w] & ~low);
  } else {
    upper[0] = upper[1] = code.plane[0][w];
  }
#pragma unroll
  for (int i = 0; i < 32; i += 2) {
    const int t = 32 * w + i;
    // Byte offsets into the table.
    const int from = bits == 3 ? i / 4 * 4 : i;
    constexpr std::uint32_t window_mask = 0x7FU << 2;
    constexpr std::uint32_t upper_mask = ((1U << (2 * (bits - 1))) - 1U) << (2 + pair_window_bits);
    const std::uint32_t offset = (code.window(D - 2 - t, 2) & window_mask) |
                                 (shift_bits(upper[i / 2 % 2], from, 2 + pair_window_bits) & upper_mask);
    const auto both =
        *reinterpret_cast<const __half2*>(reinterpret_cast<const std::uint8_t*>(tables.pair) + offset);
    x[t] = __low2float(both);
    x[t + 1] = __high2float(both);
    if (t % (D / 8) == 4) {
      std::uint32_t wide = (code.window(D - 2 - t, 0) & 0x7EU);  // 2 r: bytes
#pragma unroll
      for (int k = 0; k < bits - 1; ++k) wide |= shift_bits(code.plane[k][w], i, 7 + k) & (1U << (7 + k));
      wide |= shift_bits(code.header, 8 + t / (D / 8), 6 + bits) & (1U << (6 + bits));
      x[t] = __half2float(
          *reinterpret_cast<const __half*>(reinterpret_cast<const std::uint8_t*>(tables.single) + wide));
    }
  }
}

template <typename Turn, typename T, int bits>
__global__ void __launch_bounds__(register_threads, Turn::decode_blocks)
    trellis_decode_kernel(const __grid_constant__ TrellisDecode<Turn, bits> p) {
  constexpr int D = Turn::dim;
  using Rows = RowTile<D / 8>;
  using Words = TrellisWords<D, bits>;
  using Packed = PackedTile<Words::row_bytes>;
  using Tables = TrellisPairTables<bits>;
  extern __shared__ uint4 shared[];
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const auto& tables = *reinterpret_cast<const Tables*>(shared);
  uint4* const rows = shared + sizeof(Tables) / 16 + warp * ((Rows::bytes + Packed::bytes) / 16);
  auto* const staging = reinterpret_cast<std::uint8_t*>(rows) + Rows::bytes;
  const std::int64_t tiles = (p.n + warp_size - 1) / warp_size;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * register_warps;
  const auto count_of = [&](std::int64_t tile) {
    return static_cast<int>(min(static_cast<std::int64_t>(warp_size), p.n - tile * warp_size));
  };
  std::int64_t tile = static_cast<std::int64_t>(blockIdx.x) * register_warps + warp;
  if (tile < tiles) Packed::fetch(staging, p.codes + tile * Packed::bytes, count_of(tile));
  for (int i = static_cast<int>(threadIdx.x); i < static_cast<int>(sizeof(Tables) / 16);
       i += register_threads) {
    shared[i] = __ldg(reinterpret_cast<const uint4*>(p.tables) + i);
  }
  __syncthreads();
  for (; tile < tiles; tile += stride) {
    wait_for_copies<0>();
    __syncwarp();
    Words code;
    code.read(staging, lane);
    __syncwarp();
    if (tile + stride < tiles) {
      Packed::fetch(staging, p.codes + (tile + stride) * Packed::bytes, count_of(tile + stride));
    }
    const float scale = tables.scale[code.header & 0xFFU] / Turn::backward_scale;
    uint4* const row = rows + lane * Rows::pitch;
    Turn::backward([&](int w, float(&x)[D]) { look_up_pairs<D, bits>(code, tables, w, x); }, p.turn,
                   [&](int chunk, const float(&x)[D]) {
                     std::uint32_t word[4];
#pragma unroll
                     for (int i = 0; i < 4; ++i) {
                       word[i] = pack<T>(x[8 * chunk + 2 * i] * scale, x[8 * chunk + 2 * i + 1] * scale);
                     }
                     row[chunk] = make_uint4(word[0], word[1], word[2], word[3]);
                   });
    __syncwarp();
    Rows::store(rows, p.x + tile * (warp_size * D / 8), count_of(tile));
  }
}

template <typename Turn, int bits>
class TurnTrellisDecoder final : public TrellisRegisterDecoder {
 public:
  static std::unique_ptr<TrellisRegisterDecoder> of(const TrellisCodec& codec) {
    const TrellisValueFormat& format = codec.format();
    if (format.bits() != bits || format.code().memory() != 5 || format.dim() != Turn::dim) return nullptr;
    auto backward = Turn::parameters(codec.rotation().program());
    if (!backward) return nullptr;
    return std::unique_ptr<TrellisRegisterDecoder>(
        new TurnTrellisDecoder(*backward, make_pair_tables<bits>(format)));
  }

  void decode(cudaStream_t stream, const std::uint8_t* codes, std::int64_t n, void* x,
              ElementType type) const override {
    if (n == 0) return;
    const auto kernel = type == ElementType::float16 ? trellis_decode_kernel<Turn, __half, bits>
                                                     : trellis_decode_kernel<Turn, __nv_bfloat16, bits>;
    const std::int64_t needed = (n + register_threads - 1) / register_threads;
    kernel<<<static_cast<unsigned>(needed < blocks_ ? needed : blocks_), register_threads, shared_bytes,
             stream>>>({backward_, tables_.data(), codes, n, static_cast<uint4*>(x)});
    check_launch("decode");
  }

 private:
  using Tables = TrellisPairTables<bits>;
  static constexpr std::size_t shared_bytes =
      sizeof(Tables) + register_warps * (RowTile<Turn::dim / 8>::bytes +
                                         PackedTile<TrellisWords<Turn::dim, bits>::row_bytes>::bytes);

  TurnTrellisDecoder(const typename Turn::Parameters& backward, const Tables& tables)
      : backward_(backward), tables_(std::vector<Tables>{tables}) {
    allow_shared_memory("decode", trellis_decode_kernel<Turn, __nv_bfloat16, bits>, shared_bytes);
    blocks_ =
        resident_blocks("decode", trellis_decode_kernel<Turn, __half, bits>, register_threads, shared_bytes);
  }

  typename Turn::Parameters backward_;
  Buffer<Tables> tables_;
  int blocks_ = 0;  // that the GPU holds at a time
};

}  // namespace rotorquant::device
