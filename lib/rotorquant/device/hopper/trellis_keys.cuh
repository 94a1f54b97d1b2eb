#pragma once
// Decodes calibrated keys with trellis codes of mixed widths to left operands (wgmma.cuh): half h of a warp's
// 32 keys.
//
// The bits of 32 keys are transposed, so that a lane has one bit of all keys: gathering a coordinate's
// register and upper bits, in whatever order mixed widths store them, is then a matter of addresses, and
// another transposition makes them indices. A lane looks levels up in a column of the table that is its own:
// no two lanes meet in a bank. Coordinates wider than 4 bits, a few, are looked up one by one, a lane for a
// key. Levels lie by coordinate and are turned into rows of keys as they are loaded.
#include "rotorquant/device/hopper/key_bits.cuh"
#include "rotorquant/device/nibbles.cuh"
#include "rotorquant/device/rotation.cuh"

namespace rotorquant::device {

// Bit i of lane j's word to bit j of lane i's.
__device__ __forceinline__ std::uint32_t transpose_bits(std::uint32_t word) {
  const auto lane = static_cast<unsigned>(threadIdx.x % warp_size);
  const auto exchange = [&](int step, std::uint32_t selector, std::uint32_t upper_selector) {
    const std::uint32_t other = __shfl_xor_sync(all_lanes, word, step);
    word = permute_bytes(word, other, (lane & static_cast<unsigned>(step)) != 0 ? upper_selector : selector);
  };
  exchange(16, 0x5410, 0x3276);
  exchange(8, 0x6240, 0x3715);
  constexpr std::uint32_t masks[3] = {0x0F0F0F0FU, 0x33333333U, 0x55555555U};
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    const unsigned step = 4U >> i;
    const bool upper = (lane & step) != 0;
    const std::uint32_t other = __shfl_xor_sync(all_lanes, word, static_cast<int>(step));
    // Rotated by as much, what comes in from the other end is masked.
    const std::uint32_t moved = __funnelshift_l(other, other, upper ? 32U - step : step);
    word = select_bits(upper ? ~masks[i] : masks[i], word, moved);
  }
  return word;
}

// Word i, bit j of each byte to word j, bit i of that byte.
__device__ __forceinline__ void transpose_bytes(std::uint32_t (&words)[8]) {
  constexpr std::uint32_t masks[3] = {0x55555555U, 0x33333333U, 0x0F0F0F0FU};
#pragma unroll
  for (int s = 0; s < 3; ++s) {
    const int step = 1 << s;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if ((i & step) != 0) continue;
      const std::uint32_t a = words[i], b = words[i + step];
      words[i] = select_bits(masks[s], a, b << step);
      words[i + step] = select_bits(masks[s], a >> step, b);
    }
  }
}

__device__ __forceinline__ void load_matrices(std::uint32_t (&words)[4], const void* row) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(address)
               : "memory");
}

template <int D>
class TrellisKeys {
 public:
  using Tables = TrellisTables<D>;
  static constexpr int centroid_copies = trellis_centroid_copies;
  // Of a block: levels at 256 index + TrellisPlace::column + 4 lane.
  static constexpr int block_bytes = 2 * 256 * 4 * warp_size;
  // Of a warp: plane 0 by rank, the words of other bits, of which there are `words`, and half 1.
  static __host__ __device__ constexpr int warp_bytes(int words) {
    return (wrap + D) * 4 + D * row_bytes + (constant_words + words + 3) / 4 * 16;
  }

  // given: the tables in global memory, with the levels of wide coordinates.
  __device__ TrellisKeys(const KeyHead& head, const std::uint8_t* tables, const std::uint8_t* given,
                         std::uint8_t* block, std::uint8_t* own)
      : tables_(*reinterpret_cast<const Tables*>(tables)),
        wide_levels_(reinterpret_cast<const std::uint16_t*>(given + tables_.wide_levels)),
        block_(block),
        ranks_(reinterpret_cast<std::uint32_t*>(own) + wrap),
        second_half_(reinterpret_cast<std::uint8_t*>(ranks_ + D)),
        words_(reinterpret_cast<std::uint32_t*>(second_half_ + D * row_bytes)),
        used_(tables_.used),
        index_bits_(head.centroid_bit) {
    if (this_lane() < constant_words) words_[this_lane()] = this_lane() == 0 ? 0U : ~0U;
  }

  // By all threads of a block.
  static __device__ __forceinline__ void fill(const std::uint8_t* tables, std::uint8_t* block) {
    const auto& levels = reinterpret_cast<const Tables*>(tables)->levels;
    for (int i = static_cast<int>(threadIdx.x); i < block_bytes / 4; i += static_cast<int>(blockDim.x)) {
      const int row = i / (2 * warp_size), side = i / warp_size % 2;
      reinterpret_cast<std::uint32_t*>(block)[i] = levels[side][row];
    }
  }

  // shared: a warp's codes, the lane's from bit `first` on; free memory afterwards.
  __device__ __forceinline__ void prepare(std::uint8_t* shared, int first) {
    const int lane = this_lane();
    const auto* at = reinterpret_cast<const std::uint32_t*>(shared) + (first >> 5);
    std::uint32_t next = at[0];
#pragma unroll 1
    for (int begin = 0; begin < index_bits_; begin += warp_size) {
      const std::uint32_t word = next;
      next = *++at;
      const std::uint32_t bit = transpose_bits(__funnelshift_r(word, next, static_cast<unsigned>(first)));
      const int i = begin + lane;
      if (i < used_) {
        const int rank = tables_.places[i].rank;
        ranks_[rank] = bit;
        if (rank >= used_ - wrapped) ranks_[rank - used_] = bit;
      } else if (i < index_bits_) {
        words_[constant_words + i - used_] = bit;
      }
    }
    __syncwarp();
#pragma unroll
    for (int pass = 0; pass < D / warp_size; ++pass) {
      decode(pass, shared);
      for (int j = warp_size * pass; j < min(warp_size * (pass + 1), tables_.wide_count); ++j)
        look_up_wide(j, shared);
      __syncwarp();
#pragma unroll
      for (int s = 0; s < 2; ++s) load_matrices(first_half_[2 * pass + s], row_of(shared, 16 * s));
      __syncwarp();
    }
  }

  __device__ __forceinline__ void operand(int h, std::uint32_t (&a)[D / 16][4]) const {
#pragma unroll
    for (int s = 0; s < D / 16; ++s) {
      if (h == 1) {
        load_matrices(a[s], row_of(second_half_, 16 * s));
      } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) a[s][i] = first_half_[s][i];
      }
    }
  }

 private:
  static constexpr int wrap = 8, wrapped = 5;  // ranks before the first one, and those that registers reach
  static constexpr int row_bytes = 32;         // of a coordinate: sixteen keys

  // Where eight keys from 8 m on of a coordinate are: in the other half of a row in four rows of eight, so
  // that eight rows' reach all banks.
  static __device__ __forceinline__ int place_of(int coordinate, int m) {
    return coordinate * row_bytes + ((m ^ coordinate >> 2) & 1) * 16;
  }
  // The lane's row of load_matrices: coordinates from `begin` on, the left eight keys first, then the right
  // ones.
  static __device__ __forceinline__ const std::uint8_t* row_of(const std::uint8_t* rows, int begin) {
    const int lane = this_lane();
    return rows + place_of(begin + lane / 16 * 8 + lane % 8, lane / 8);
  }

  // first_half: room for 32 coordinates.
  __device__ __forceinline__ void decode(int pass, std::uint8_t* first_half) {
    const int lane = this_lane(), position = warp_size * pass + lane;
    const TrellisPlace place = tables_.places[position];
    std::uint32_t low[8];
#pragma unroll
    for (int j = 0; j <= wrapped; ++j) low[j] = ranks_[place.rank - j];
    low[6] = words_[place.upper[0]];
    low[7] = words_[place.upper[1]];
    transpose_bytes(low);
    const std::uint32_t column = place.column + 4U * static_cast<unsigned>(lane);
    const auto look_up = [&](auto index_of) {
#pragma unroll
      for (int m = 0; m < 4; ++m) {
        std::uint32_t value[8];
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          const std::uint32_t at = permute_bytes(low[j], column, 0x5504U | static_cast<unsigned>(m) << 4);
          value[j] = *reinterpret_cast<const std::uint16_t*>(block_ + index_of(at, 8 * m + j));
        }
        std::uint8_t* const row =
            m < 2 ? first_half + place_of(lane, m) : second_half_ + place_of(position, m);
        *reinterpret_cast<uint4*>(row) =
            make_uint4(permute_bytes(value[0], value[1], 0x5410), permute_bytes(value[2], value[3], 0x5410),
                       permute_bytes(value[4], value[5], 0x5410), permute_bytes(value[6], value[7], 0x5410));
      }
    };
    if (warp_size * pass < tables_.four_count) {
      const std::uint32_t top = words_[place.upper[2]];
      look_up([&](std::uint32_t at, int key) { return at | ((key > 0 ? top >> (key - 1) : top << 1) & 2U); });
    } else {
      look_up([](std::uint32_t at, int) { return at; });
    }
    __syncwarp();
  }

  // The coordinate at a position, of the lane's key: the bits of its index one after the other, the highest
  // first.
  __device__ __forceinline__ void look_up_wide(int position, std::uint8_t* first_half) {
    const int lane = this_lane();
    const TrellisWide& wide = reinterpret_cast<const TrellisWide*>(&tables_ + 1)[position];
    std::uint32_t index = 0;
    const auto append = [&](std::uint32_t word) { index = __funnelshift_l(word << (31 - lane), index, 1); };
#pragma unroll
    for (int k = 6; k >= 0; --k) append(words_[wide.upper[k]]);
#pragma unroll
    for (int j = wrapped; j >= 0; --j) append(ranks_[wide.rank - j]);
    std::uint8_t* const row = lane < 16 ? first_half + place_of(position % warp_size, lane / 8)
                                        : second_half_ + place_of(position, lane / 8);
    reinterpret_cast<std::uint16_t*>(row)[lane % 8] = __ldg(wide_levels_ + wide.first_level + index);
  }

  const Tables& tables_;
  const std::uint16_t* const wide_levels_;
  const std::uint8_t* const block_;
  std::uint32_t* const ranks_;
  std::uint8_t* const second_half_;
  std::uint32_t* const words_;
  const int used_, index_bits_;
  std::uint32_t first_half_[D / 16][4];
};

}  // namespace rotorquant::device
