#include <cstring>
#include <utility>

#include "rotorquant/core/half.hpp"
#include "rotorquant/device/band_encoder.cuh"
#include "rotorquant/device/index_planes.cuh"
#include "rotorquant/device/launch.cuh"
#include "rotorquant/device/plane_scores.cuh"
#include "rotorquant/device/refusals.cuh"
#include "rotorquant/device/rotation_matrix.hpp"
#include "rotorquant/device/row_fragments.cuh"
#include "rotorquant/device/warp_tile.cuh"

namespace rotorquant::device {
namespace {

constexpr int band_warps = 12;  // a block
constexpr int band_threads = band_warps * warp_size;
constexpr int band_blocks = 1;  // a multiprocessor: fewer rows at a time reach more of the bandwidth
constexpr int band_rows = 16;   // a warp takes at a time

// Which coordinates stand where. A group is 32 consecutive ones, the last of 80 is 16. Its product has four
// blocks of eight columns: lane t gets coordinates 8 t .. 8 t + 7 of the group, two from each block, and so
// whole bytes of the planes. Inner indices are the group's coordinates in their order, two steps, and for the
// first and the last block the eight coordinates before and after the group.
template <int D>
struct BandShape {
  static constexpr int steps = D / 16;
  static constexpr int groups = (D + 31) / 32;
  static constexpr int group_steps(int group) { return 2 * group + 1 < steps ? 2 : 1; }

  static constexpr int column(int group, int block, int n) {
    return 32 * group + 8 * (n / 2) + 2 * block + n % 2;
  }
};

// The right operands of one group, as the lanes hold them.
template <int terms>
struct BandOperand {
  struct alignas(terms == 2 ? 16 : 8) Step {
    std::uint32_t term[terms][2];
  };
  struct alignas(terms == 2 ? 8 : 4) HalfStep {
    std::uint32_t term[terms];
  };
  Step inside[4][2][warp_size];   // [block][step][lane]
  HalfStep beside[2][warp_size];  // before the first block, after the last
};

template <typename T>
inline constexpr int terms_of = std::is_same_v<T, __half> ? 2 : 3;

struct BandEncode {
  const std::uint8_t* operand;
  MagnitudeCurve curve;
  const std::uint8_t* x;
  std::int64_t n;
  std::uint8_t* codes;
  __half* norms;
  unsigned long long* refusals;
};

// What a block has in shared memory, in this order: the operands of all groups; for each warp a tile of rows
// and one of codes.
template <int D, typename T, int bits>
struct BandMemory {
  using Operand = BandOperand<terms_of<T>>;
  static constexpr int operand_bytes = BandShape<D>::groups * static_cast<int>(sizeof(Operand));
  using Rows = RowTile<band_rows, D / 8>;
  using Codes = PackedTile<band_rows, bits * D / 8>;
  static constexpr int warp_bytes = Rows::bytes + Codes::bytes;
  static constexpr int bytes = operand_bytes + band_warps * warp_bytes;
  static_assert(operand_bytes % 16 == 0);
};

// Norms of rows g and g + 8 in float32, the same in all lanes of a row: the diagonals of the rows' products
// with one another. Every word is a left operand and, as it stands, a right one.
template <typename T, int steps>
__device__ __forceinline__ void find_norms(const RowOperand<steps>& rows, float (&norm)[2]) {
  const int g = static_cast<int>(threadIdx.x) % warp_size / 4;
  float products[2][2][4] = {};  // [r][h]: of all rows with rows 8 r .. 8 r + 7
#pragma unroll
  for (int s = 0; s < steps; ++s) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int r = 0; r < 2; ++r) multiply_half<T>(products[r][h], rows[s], h, rows[s][2 * h + r]);
    }
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float even = products[r][0][2 * r] + products[r][1][2 * r];
    const float odd = products[r][0][2 * r + 1] + products[r][1][2 * r + 1];
    // Row g with itself is in column g, which lane g / 2 of the row's four holds.
    norm[r] = square_root(__shfl_sync(0xFFFFFFFFU, g % 2 == 0 ? even : odd, 4 * g + g / 2));
  }
}

// A bound on the relative error of these norms: a product adds eight squares to its sum and drops what lies
// below the last place of the largest, at most 2^-22 of the sum; the root halves what `steps` of them and one
// more add up to, and adds its own.
template <int D>
inline constexpr float norm_uncertainty = (D / 16 + 1) * 0x1p-23F + 0x1p-23F;

// Planes of the warp's rows, into [16, bits, D / 8] bytes of shared memory.
template <int D, typename T, int bits>
__device__ __forceinline__ void encode_rows_of_warp(const RowOperand<D / 16>& rows, const float (&measure)[2],
                                                    const MagnitudeCurve& curve,
                                                    const BandOperand<terms_of<T>>* operands,
                                                    std::uint8_t* codes) {
  using Shape = BandShape<D>;
  constexpr int terms = terms_of<T>;
  const int lane = static_cast<int>(threadIdx.x) % warp_size, g = lane / 4, t = lane % 4;
  IndexPlanes<bits> planes[2];
#pragma unroll
  for (int group = 0; group < Shape::groups; ++group) {
    const BandOperand<terms>& operand = operands[group];
#pragma unroll
    for (int block = 0; block < 4; ++block) {
      float sums[4] = {};
#pragma unroll
      for (int s = 0; s < Shape::group_steps(group); ++s) {
        const auto b = operand.inside[block][s][lane];
#pragma unroll
        for (int i = 0; i < terms; ++i)
          multiply_rows<T>(sums, rows[2 * group + s], b.term[i][0], b.term[i][1]);
      }
      const int side = block / 3;  // of the first and the last block
      const int neighbour = side == 0 ? 2 * group - 1 : 2 * group + 2;
      if (block % 3 == 0 && neighbour >= 0 && neighbour < Shape::steps) {
        const auto b = operand.beside[side][lane];
#pragma unroll
        for (int i = 0; i < terms; ++i) multiply_half<T>(sums, rows[neighbour], 1 - side, b.term[i]);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) planes[i / 2].push(curve, measure[i / 2], i % 2, sums[i]);
    }
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    std::uint32_t plane[bits];  // byte i: of group i
    planes[r].finish(8 * Shape::groups, plane);
    std::uint8_t* const row = codes + (g + 8 * r) * (bits * D / 8);
#pragma unroll
    for (int j = 0; j < bits; ++j) {
#pragma unroll
      for (int group = 0; group < Shape::groups; ++group) {
        if (32 * group + 32 <= D || t < 2)
          row[j * (D / 8) + 4 * group + t] = static_cast<std::uint8_t>(plane[j] >> (8 * group));
      }
    }
  }
}

template <int D, typename T, int bits>
__global__ void __launch_bounds__(band_threads, band_blocks)
    band_encode_kernel(const __grid_constant__ BandEncode p) {
  using Memory = BandMemory<D, T, bits>;
  extern __shared__ uint4 shared[];
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int t = lane % 4;
  std::uint8_t* const own =
      reinterpret_cast<std::uint8_t*>(shared) + Memory::operand_bytes + warp * Memory::warp_bytes;
  std::uint8_t* const codes = own + Memory::Rows::bytes;
  const std::int64_t tiles = (p.n + band_rows - 1) / band_rows;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * band_warps;
  const auto rows_of = [&](std::int64_t tile) {
    return static_cast<int>(min(static_cast<std::int64_t>(band_rows), p.n - tile * band_rows));
  };
  const auto fetch = [&](std::int64_t tile) {
    if (tile < tiles) Memory::Rows::fetch(own, p.x + tile * (band_rows * 2 * D), rows_of(tile));
  };
  std::int64_t tile = static_cast<std::int64_t>(blockIdx.x) * band_warps + warp;
  fetch(tile);
  for (int i = static_cast<int>(threadIdx.x); i < Memory::operand_bytes / 16; i += band_threads) {
    shared[i] = __ldg(reinterpret_cast<const uint4*>(p.operand) + i);
  }
  __syncthreads();
  const auto* const operands = reinterpret_cast<const typename Memory::Operand*>(shared);
  for (; tile < tiles; tile += stride) {
    wait_for_copies<0>();
    __syncwarp();
    RowOperand<D / 16> rows;
    load_rows(rows, own, Memory::Rows::pitch);
    __syncwarp();
    fetch(tile + stride);

    float norm[2];
    find_norms<T>(rows, norm);
    // Lanes 0 and 1 of a row's four store them.
    const bool doubt = t < 2 && in_doubt(t == 0 ? norm[0] : norm[1], norm_uncertainty<D>);
    if (__any_sync(0xFFFFFFFFU, doubt)) find_exact_norms<T>(rows, norm);
    const int count = rows_of(tile), row = lane / 4 + 8 * t;
    if (t < 2 && row < count) {
      const float exact = t == 0 ? norm[0] : norm[1];
      p.norms[tile * band_rows + row] = __float2half_rn(exact);
      check_norm(p.refusals, NormType::fp16, exact, tile * band_rows + row);
    }
    const float measure[2] = {IndexPlanes<bits>::measure(p.curve, norm[0], tensor_scale),
                              IndexPlanes<bits>::measure(p.curve, norm[1], tensor_scale)};
    encode_rows_of_warp<D, T, bits>(rows, measure, p.curve, operands, codes);
    __syncwarp();
    Memory::Codes::store(codes, p.codes + tile * Memory::Codes::bytes, count);
    __syncwarp();
  }
}

// Right operands of all groups, -R so that the sign bit of a sum says "y > 0". Nothing if an entry that is
// not 0 has no place there.
template <int D, typename T>
std::optional<std::vector<std::uint8_t>> band_operand(const std::vector<float>& matrix) {
  using Shape = BandShape<D>;
  constexpr int terms = terms_of<T>;
  std::vector<BandOperand<terms>> operands(static_cast<std::size_t>(Shape::groups));
  std::memset(static_cast<void*>(operands.data()), 0, operands.size() * sizeof operands[0]);
  std::vector<bool> covered(matrix.size(), false);
  const auto split = [&](int column, int inner, int half, auto& term_of) {
    if (column >= D || inner < 0 || inner >= D) return;
    const auto at = static_cast<std::size_t>(column * D + inner);
    covered[at] = true;
    float left = -matrix[at] * tensor_scale;
    for (int i = 0; i < terms; ++i) {
      std::uint16_t number;
      if constexpr (std::is_same_v<T, __half>) {
        number = float_to_half(left);
        left -= half_to_float(number);
      } else {
        number = float_to_bfloat16(left);
        left -= bfloat16_to_float(number);
      }
      term_of(i) |= static_cast<std::uint32_t>(number) << (16 * half);
    }
  };
  for (int group = 0; group < Shape::groups; ++group) {
    BandOperand<terms>& operand = operands[static_cast<std::size_t>(group)];
    for (int lane = 0; lane < warp_size; ++lane) {
      const int n = lane / 4, t = lane % 4;
      for (int half = 0; half < 2; ++half) {
        for (int block = 0; block < 4; ++block) {
          for (int s = 0; s < Shape::group_steps(group); ++s) {
            for (int h = 0; h < 2; ++h) {
              const auto term = [&](int i) -> std::uint32_t& {
                return operand.inside[block][s][lane].term[i][h];
              };
              split(Shape::column(group, block, n), 32 * group + 16 * s + 8 * h + 2 * t + half, half, term);
            }
          }
        }
        for (int side = 0; side < 2; ++side) {
          const auto term = [&](int i) -> std::uint32_t& { return operand.beside[side][lane].term[i]; };
          split(Shape::column(group, 3 * side, n), 32 * group + (side == 0 ? -8 : 32) + 2 * t + half, half,
                term);
        }
      }
    }
  }
  for (std::size_t i = 0; i < matrix.size(); ++i) {
    if (matrix[i] != 0.0F && !covered[i]) return std::nullopt;
  }
  std::vector<std::uint8_t> image(operands.size() * sizeof operands[0]);
  std::memcpy(image.data(), operands.data(), image.size());
  return image;
}

template <int D>
class BandEncoderOf final : public BandEncoder {
 public:
  static std::unique_ptr<BandEncoder> of(const ScalarCodec& codec, const MagnitudeCurve& curve) {
    const std::vector<float> matrix = matrix_of(codec.rotation());
    const auto half = band_operand<D, __half>(matrix);
    const auto bfloat16 = band_operand<D, __nv_bfloat16>(matrix);
    if (!half || !bfloat16) return nullptr;
    auto made = std::unique_ptr<BandEncoderOf>(new BandEncoderOf);
    made->curve_ = curve;
    made->bits_ = codec.codebook().bits();
    made->half_.operand = Buffer<std::uint8_t>(*half);
    made->bfloat16_.operand = Buffer<std::uint8_t>(*bfloat16);
    for (const ElementType type : {ElementType::float16, ElementType::bfloat16}) {
      made->dispatch(type, [&]<typename T, int bits>(Rows& rows) {
        rows.resident = resident_blocks("encode", band_encode_kernel<D, T, bits>, band_threads,
                                        BandMemory<D, T, bits>::bytes);
      });
    }
    return made;
  }

  void encode(cudaStream_t stream, const void* x, ElementType type, std::int64_t n, std::uint8_t* codes,
              std::uint8_t* norms, unsigned long long* refusals) const override {
    if (n == 0) return;
    dispatch(type, [&]<typename T, int bits>(const Rows& rows) {
      const BandEncode arguments{rows.operand.data(),
                                 curve_,
                                 static_cast<const std::uint8_t*>(x),
                                 n,
                                 codes,
                                 reinterpret_cast<__half*>(norms),
                                 refusals};
      const std::int64_t needed = (n + band_warps * band_rows - 1) / (band_warps * band_rows);
      band_encode_kernel<D, T, bits><<<static_cast<unsigned>(needed < rows.resident ? needed : rows.resident),
                                       band_threads, BandMemory<D, T, bits>::bytes, stream>>>(arguments);
      check_launch("encode");
    });
  }

 private:
  struct Rows {  // of one type
    Buffer<std::uint8_t> operand;
    int resident = 0;  // blocks that the GPU holds at a time
  };

  BandEncoderOf() = default;

  template <typename Self, typename Body>
  static void dispatch_of(Self& self, ElementType type, const Body& body) {
    if (type == ElementType::float16) {
      self.bits_ == 2 ? body.template operator()<__half, 2>(self.half_)
                      : body.template operator()<__half, 3>(self.half_);
    } else {
      self.bits_ == 2 ? body.template operator()<__nv_bfloat16, 2>(self.bfloat16_)
                      : body.template operator()<__nv_bfloat16, 3>(self.bfloat16_);
    }
  }
  template <typename Body>
  void dispatch(ElementType type, const Body& body) {
    dispatch_of(*this, type, body);
  }
  template <typename Body>
  void dispatch(ElementType type, const Body& body) const {
    dispatch_of(*this, type, body);
  }

  MagnitudeCurve curve_{};
  int bits_ = 0;
  Rows half_, bfloat16_;
};

}  // namespace

std::unique_ptr<BandEncoder> make_band_encoder(const ScalarCodec& codec) {
  if (codec.norm_type() != NormType::fp16 || codec.scale_rule() != ScaleRule::norm ||
      codec.rotation().output_dim() != codec.dim() || !is_symmetric(codec.codebook())) {
    return nullptr;
  }
  const auto curve = MagnitudeCurve::of(codec.codebook());
  if (!curve) return nullptr;
  switch (codec.dim()) {
    case 80:
      return BandEncoderOf<80>::of(codec, *curve);
    case 96:
      return BandEncoderOf<96>::of(codec, *curve);
    case 128:
      return BandEncoderOf<128>::of(codec, *curve);
    default:
      return nullptr;
  }
}

}  // namespace rotorquant::device
