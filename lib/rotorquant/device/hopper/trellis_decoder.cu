#include <cstring>

#include "rotorquant/device/hopper/tensor_decode.cuh"
#include "rotorquant/device/hopper/tensor_operand.cuh"
#include "rotorquant/device/hopper/trellis_decoder.cuh"
#include "rotorquant/device/trellis_pairs.cuh"

namespace rotorquant::device {
namespace {

// A register of the left operand holds two neighbouring coordinates, a step four.
template <typename Base>
struct PairShape : Base {
  static_assert(Base::pieces == 1);
  static constexpr bool whole_rows = false;  // slower here: looking levels up keeps shared memory busy
  static __host__ __device__ constexpr int decode_inner(int step, int k) {
    return Base::lane_coordinates * (k % 8 / 2) + 4 * step + 2 * (k / 8) + k % 2;
  }
};
using Shape64 = PairShape<TensorShape<64, 1, 4>>;
using Shape128 = PairShape<TensorShape<128, 1, 2>>;

template <typename Shape, int bits>
struct TrellisDecodeMemory {
  static constexpr int row_bytes = trellis_row_bytes<Shape::dim, bits>;
  static constexpr int code_bytes = rows_a_warp * row_bytes;
  static_assert(code_bytes % 16 == 0 && code_bytes <= TensorMemory<Shape>::stage_bytes);
  static constexpr int table_offset = TensorMemory<Shape>::decode_bytes;
  static constexpr int bytes = table_offset + static_cast<int>(sizeof(HalfPairs<bits>));
  static_assert(table_offset % 16 == 0);
};

// DecodeJob with trellis codes in place of planes and norms.
template <typename Shape, int bits>
struct TrellisDecodeJob : DecodeJob<Shape, true> {
  using Base = DecodeJob<Shape, true>;
  using Memory = TrellisDecodeMemory<Shape, bits>;
  using Base::stages;

  const HalfPairs<bits>& tables;
  float offset;

  __device__ __forceinline__ void fetch(std::int64_t tile, int into) const {
    const std::int64_t first = min(this->row_of(tile), this->p.n);
    fetch_rows<Memory::code_bytes>(this->codes + into * TensorMemory<Shape>::stage_bytes,
                                   this->p.codes + first * Memory::row_bytes,
                                   (this->p.n - first) * Memory::row_bytes);
    commit_copies();
  }
  __device__ __forceinline__ void begin(std::int64_t tile) const {
#pragma unroll
    for (int i = 0; i < stages - 1; ++i) fetch(tile + i * this->stride, i);
  }

  template <int parity>
  __device__ __forceinline__ void prepare(std::int64_t tile) {
    fetch(tile + (stages - 1) * this->stride, this->stage == 0 ? stages - 1 : this->stage - 1);
    wait_for_copies<stages - 1>();
    __syncwarp();
    const std::uint8_t* const row =
        this->codes + this->stage * TensorMemory<Shape>::stage_bytes + this->place.g * Memory::row_bytes;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      this->scale[parity][r] = trellis_scale(row[8 * r * Memory::row_bytes], offset) * (1.0F / tensor_scale);
    }
    using Keys = TrellisQuarters<Shape::dim, bits>;
    Keys keys;
    if constexpr (Keys::keys == 2) {
      keys.load(row, this->place.t, true);
#pragma unroll
      for (int r = 0; r < 2; ++r) look_up(keys, r, 0, r);
    } else {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        keys.load(row + 8 * r * Memory::row_bytes, this->place.t, false);
#pragma unroll
        for (int run = 0; run < 2; ++run) look_up(keys, run, 4 * run, r);
      }
    }
    __syncwarp();
    this->stage = this->stage + 1 == stages ? 0 : this->stage + 1;
  }

 private:
  // A run's four steps from `step` on, of row g + 8 r.
  template <typename Keys>
  __device__ __forceinline__ void look_up(const Keys& keys, int run, int step, int r) {
#pragma unroll
    for (int s = 0; s < 4; ++s) {
      this->operand_[step + s][r] = tables.template look_up<16>(keys, run, 4 * s, Keys::wide(run, 4 * s));
      this->operand_[step + s][2 + r] = tables.template look_up<16>(keys, run, 4 * s + 2, -1);
    }
  }
};

template <typename Shape, int bits>
__global__ void __launch_bounds__(Shape::threads, 1)
    trellis_decode_kernel(const __grid_constant__ TensorDecode p, const HalfPairs<bits>* given_tables,
                          float offset) {
  using Memory = TrellisDecodeMemory<Shape, bits>;
  extern __shared__ __align__(1024) uint4 shared[];
  auto* const bytes = reinterpret_cast<std::uint8_t*>(shared);
  const TensorPlace place;
  const TensorTiles<Shape> tiles(p.n);
  load_matrix<Shape>(shared, p.matrix, tiles.part);
  auto* const tables = reinterpret_cast<uint4*>(bytes + Memory::table_offset);
  for (int i = static_cast<int>(threadIdx.x); i < static_cast<int>(sizeof(HalfPairs<bits>) / 16);
       i += Shape::threads)
    tables[i] = __ldg(reinterpret_cast<const uint4*>(given_tables) + i);
  TrellisDecodeJob<Shape, bits> job{
      {p, place, tiles.part, tiles.stride,
       bytes + TensorMemory<Shape>::code_offset + place.warp * TensorMemory<Shape>::decode_warp_bytes},
      *reinterpret_cast<const HalfPairs<bits>*>(tables),
      offset};
  job.begin(tiles.first);
  __syncthreads();
  run_tiles<Shape>(job, tiles,
                   operand_descriptor(static_cast<std::uint32_t>(__cvta_generic_to_shared(bytes))));
}

// body.operator()<Shape, bits>().
template <typename Body>
auto dispatch(int dim, int bits, const Body& body) {
  if (dim == 64) {
    return bits == 2 ? body.template operator()<Shape64, 2>() : body.template operator()<Shape64, 3>();
  }
  return bits == 2 ? body.template operator()<Shape128, 2>() : body.template operator()<Shape128, 3>();
}

}  // namespace

std::unique_ptr<TrellisTensorDecoder> TrellisTensorDecoder::of(const TrellisCodec& codec) {
  const TrellisValueFormat& format = codec.format();
  if (!is_this_architecture() || !has_trellis_pairs(format)) return nullptr;
  auto made = std::unique_ptr<TrellisTensorDecoder>(new TrellisTensorDecoder);
  made->dim_ = format.dim();
  made->bits_ = format.bits();
  made->offset_ = scale_octaves(format);
  int gpu = 0;
  check(cudaGetDevice(&gpu), "choice of a GPU");
  check(cudaDeviceGetAttribute(&made->processors_, cudaDevAttrMultiProcessorCount, gpu),
        "look-up of the GPU");
  const std::vector<float> matrix = matrix_of(codec.rotation());
  dispatch(made->dim_, made->bits_, [&]<typename Shape, int bits>() {
    const auto operand = decode_operand_of<Shape>([&](int result, int inner) {
      return matrix[static_cast<std::size_t>(inner * Shape::dim + result)];
    });
    made->matrix_ = Buffer<std::uint8_t>(*operand);
    const HalfPairs<bits> tables = make_half_pairs<bits>(format.code().codebook());
    std::vector<std::uint8_t> image(sizeof tables);
    std::memcpy(image.data(), &tables, sizeof tables);
    made->tables_ = Buffer<std::uint8_t>(image);
  });
  return made;
}

void TrellisTensorDecoder::decode(cudaStream_t stream, const std::uint8_t* codes, std::int64_t n, void* x,
                                  ElementType type) const {
  if (n == 0) return;
  dispatch(dim_, bits_, [&]<typename Shape, int bits>() {
    constexpr int bytes = TrellisDecodeMemory<Shape, bits>::bytes;
    const auto kernel = trellis_decode_kernel<Shape, bits>;
    allow_shared_memory("decode", kernel, bytes);
    const TensorDecode arguments{matrix_.data(), {}, dim_, bits, codes, nullptr, n, x, type};
    kernel<<<tensor_grid<Shape>(processors_, n), Shape::threads, bytes, stream>>>(
        arguments, reinterpret_cast<const HalfPairs<bits>*>(tables_.data()), offset_);
    check_launch("decode");
  });
}

}  // namespace rotorquant::device
