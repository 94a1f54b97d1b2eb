#pragma once
// Decodes calibrated keys to left operands (wgmma.cuh): half h of a warp's 32 keys. The bits of the keys, a
// byte each, meet the matrix of key_indices.hpp on the tensor cores, which makes the addresses of the levels:
// a lane looks up what its registers of the operand have.
#include <type_traits>

#include "rotorquant/device/calibrated_tables.cuh"
#include "rotorquant/device/hopper/key_bits.cuh"
#include "rotorquant/device/hopper/wgmma.cuh"
#include "rotorquant/device/nibbles.cuh"

namespace rotorquant::device {

template <int D, int single_steps, KeyCode code>
class IndexedKeys {
  static __host__ __device__ constexpr IndexShape shape() { return {D, single_steps, code}; }

 public:
  // weights: where the right operand is. tables: in shared memory.
  __device__ IndexedKeys(const KeyHead& head, const HeadImage& image, const std::uint8_t* shared,
                         int code_bytes)
      : weights_(
            operand_descriptor(static_cast<std::uint32_t>(__cvta_generic_to_shared(shared + image.indices)))),
        tables_(shared + HeadImage::tables),
        groups_(head.groups),
        key_bytes_(kept(8 * code_bytes)) {
    const int t = this_lane() % 4, first = this_lane() / 4 * 8 * code_bytes;
    plane_bit_ = kept(first + D / 4 * t);
    upper_bit_ = kept(first + D / 4 * t + head.upper_bit);
    tail_bit_ = kept(first + 8 * t + head.tail_bit);
    // The last two slots of the tail.
    constant_ = kept(t == 3 ? 0x80800000U : 0U);
    tail_mask_ = kept((0x01010101U << bits.tail_place) & (t == 3 ? 0xFFFFU : ~0U));
  }

  // The addresses of the first part's columns, which the tensor cores make from `begin` to `finish`.
  using Indices = std::int32_t[shape().columns() / shape().parts() / 2];
  // codes: of the warp's keys, there until the end. All warps of the warpgroup.
  __device__ __forceinline__ void begin(const std::uint8_t* codes, int h, Indices& at) const {
    find(codes + 2 * h * key_bytes_, 0, at);
  }
  __device__ __forceinline__ void finish(const std::uint8_t* codes, int h, Indices& at,
                                         std::uint32_t (&a)[D / 16][4]) const {
    add_groups(codes + 2 * h * key_bytes_, 0, at);
    look_up(0, at, a);
    if constexpr (shape().parts() > 1) {
      find(codes + 2 * h * key_bytes_, 1, at);
      add_groups(codes + 2 * h * key_bytes_, 1, at);
      look_up(1, at, a);
    }
  }

 private:
  static constexpr int part_columns = shape().columns() / shape().parts();
  static constexpr int steps = shape().group_steps();
  static constexpr SlotBits bits = slot_bits(code);
  // Groups behind plane 0 that are multiplied at once with it.
  static constexpr int early_groups = code == KeyCode::scalar_twos ? 1 : 0;

  // Of the keys g and g + 8 of a half the word from the lane's bit on.
  __device__ __forceinline__ void load(const std::uint8_t* rows, int bit, std::uint32_t (&words)[2]) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const auto* const word = reinterpret_cast<const std::uint32_t*>(rows + r * key_bytes_) + (bit >> 5);
      words[r] = __funnelshift_r(word[0], word[1], static_cast<unsigned>(bit));
    }
  }
  // The lane's slots of a group.
  template <int place>
  __device__ __forceinline__ void spread(const std::uint32_t (&words)[2],
                                         std::uint32_t (&a)[steps][4]) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const std::uint32_t word = D == 128 ? words[r] : permute_bytes(words[r], words[r] >> 4, 0x5410);
#pragma unroll
      for (int m = 0; m < 2 * steps; ++m) {
        const int at = bits.each * m;
        const std::uint32_t moved = at > place ? word >> (at - place) : word << (place - at);
        a[m / 2][m % 2 * 2 + r] = moved & (bits.each == 2 ? 0x03030303U : 0x01010101U) << place;
      }
    }
  }
  // A nibble's bits to four bytes.
  __device__ __forceinline__ void spread_tail(const std::uint32_t (&words)[2], std::uint32_t (&a)[4]) const {
    constexpr std::uint32_t copies = (1U | 1U << 7 | 1U << 14 | 1U << 21) << bits.tail_place;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      a[r] = (words[r] & 15U) * copies & 0x01010101U << bits.tail_place;
      a[2 + r] = ((words[r] >> 4 & 15U) * copies & tail_mask_) | constant_;
    }
  }
  // The descriptor of a step's slots in the columns of a part.
  __device__ __forceinline__ std::uint64_t operand(int step, int part) const {
    const std::uint32_t slot = 32U * static_cast<std::uint32_t>(step);
    constexpr std::uint32_t block = shape().columns() * index_block_slots / 16;
    // Descriptors are made anew every time: the compiler would rather spill them all.
    return whole_descriptor(kept(weights_) + slot / index_block_slots * block +
                            slot % index_block_slots / 16 +
                            static_cast<std::uint32_t>(part * part_columns * index_block_slots / 16));
  }

  // Plane 0, the tail and early groups.
  __device__ __forceinline__ void find(const std::uint8_t* rows, int part, Indices& at) const {
    std::uint32_t words[2], a[steps][4], tail[4];
    load(rows, plane_bit_, words);
    spread<bits.plane_place>(words, a);
    load(rows, tail_bit_, words);
    spread_tail(words, tail);
    wgmma_begin();
#pragma unroll
    for (int s = 0; s < steps; ++s) wgmma_bytes(at, a[s], operand(s, part), s > 0);
    wgmma_bytes(at, tail, operand(shape().tail_step(early_groups > 0 ? early_groups : groups_), part), 1);
    wgmma_commit();
    if constexpr (early_groups > 0) add_group(rows, part, 0, at);
  }
  __device__ __forceinline__ void add_group(const std::uint8_t* rows, int part, int group,
                                            Indices& at) const {
    std::uint32_t words[2], a[steps][4];
    load(rows, upper_bit_ + D * group, words);
    spread<bits.upper_place>(words, a);
    const std::uint64_t first = operand(shape().group_step(group), part);  // a group ends with a block
    wgmma_begin();
#pragma unroll
    for (int s = 0; s < steps; ++s) wgmma_bytes(at, a[s], first + static_cast<std::uint64_t>(s * 32 / 16), 1);
    wgmma_commit();
  }
  __device__ __forceinline__ void add_groups(const std::uint8_t* rows, int part, Indices& at) const {
    wgmma_wait(at);
    if constexpr (early_groups == 0) {
#pragma unroll 1
      for (int group = 0; group < groups_; ++group) {
        add_group(rows, part, group, at);
        wgmma_wait(at);
      }
    }
  }

  __device__ __forceinline__ void look_up(int part, const std::int32_t (&at)[part_columns / 2],
                                          std::uint32_t (&a)[D / 16][4]) const {
#pragma unroll
    for (int s = 0; s < D / 16; ++s) {
      const int column = shape().column_of(16 * s) - part * part_columns;
      if (column < 0 || column >= part_columns) continue;
#pragma unroll
      for (int r = 0; r < 2; ++r) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          if (s < single_steps) {
            const std::int32_t* const both = at + (column / 8 + i) * 4 + 2 * r;
            const std::uint32_t first = *reinterpret_cast<const std::uint16_t*>(tables_ + both[0]);
            const std::uint32_t second = *reinterpret_cast<const std::uint16_t*>(tables_ + both[1]);
            a[s][2 * i + r] = permute_bytes(first, second, 0x5410);
          } else {
            a[s][2 * i + r] =
                *reinterpret_cast<const std::uint32_t*>(tables_ + at[column / 8 * 4 + 2 * r + i]);
          }
        }
      }
    }
  }

  const std::uint32_t weights_;  // descriptor
  const std::uint8_t* const tables_;
  const int groups_, key_bytes_;          // bytes between keys that are eight apart
  int plane_bit_, upper_bit_, tail_bit_;  // of the lane's first word, from the warp's first code on
  std::uint32_t constant_, tail_mask_;
};

}  // namespace rotorquant::device
