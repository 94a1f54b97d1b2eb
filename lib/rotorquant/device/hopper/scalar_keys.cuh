#pragma once
// Decodes calibrated keys with scalar levels of mixed widths to left operands (wgmma.cuh): half h of a warp's
// 32 keys.
//
// First a lane has one key: it gathers a code of four bits for each coordinate from the planes, and looks up,
// one by one, the few that are wider. Then the four lanes of a row have every fourth coordinate; two codes, a
// byte, name a pair of levels, which a lane looks up in a column of the table that is its own: no two lanes
// meet in a bank.
#include "rotorquant/device/hopper/key_bits.cuh"
#include "rotorquant/device/nibbles.cuh"
#include "rotorquant/device/rotation.cuh"

namespace rotorquant::device {

template <int D>
class ScalarKeys {
 public:
  using Tables = ScalarTables<D>;
  static constexpr int centroid_copies = scalar_centroid_copies;
  // Of a block: the pairs of both tables at 256 code + 128 table + 4 lane.
  static constexpr int block_bytes = 2 * pair_codes * 4 * warp_size;
  // Of a warp. steps: of 16 coordinates, that have some wider than 4 bits.
  static __host__ __device__ constexpr int warp_bytes(int steps) {
    return warp_size * (code_pitch + wide_pitch(steps));
  }

  __device__ ScalarKeys(const KeyHead& head, const std::uint8_t* tables, const std::uint8_t*,
                        std::uint8_t* block, std::uint8_t* own)
      : head_(head),
        tables_(*reinterpret_cast<const Tables*>(tables)),
        block_(block),
        own_(own),
        code_place_(kept(this_lane() / 4 * code_pitch + this_lane() % 4 * 4)),
        wide_count_(tables_.wide_count),
        whole_chunks_(tables_.four_count / 32),
        rest_(tables_.four_count % 32) {
    const int t = this_lane() % 4;
    four_halves_ = kept(halves_below(rest_ % 8 - t));
    wide_halves_[0] = kept(halves_below(wide_count_ - t));
    wide_halves_[1] = kept(halves_below(wide_count_ - 8 - t));
  }

  // By all threads of a block.
  static __device__ __forceinline__ void fill(const std::uint8_t* tables, std::uint8_t* block) {
    const auto& pairs = reinterpret_cast<const Tables*>(tables)->pairs;
    for (int i = static_cast<int>(threadIdx.x); i < block_bytes / 4; i += static_cast<int>(blockDim.x))
      reinterpret_cast<std::uint32_t*>(block)[i] = pairs[i / warp_size % 2][i / (2 * warp_size)];
  }

  // shared: a warp's codes; the lane's begin at bit `first`.
  __device__ __forceinline__ void prepare(const std::uint8_t* shared, int first) {
    const int lane = this_lane();
    const int4 start = *reinterpret_cast<const int4*>(head_.start);
    std::uint32_t plane[4][D / 32];
    load_bits(shared, first, plane[0]);
    load_bits(shared, first + start.y, plane[1]);
    load_bits(shared, first + start.z, plane[2]);
    load_bits(shared, first + start.w, plane[3]);
#pragma unroll
    for (int c = 0; c < D / 32; ++c) {
      const uint4 has = *reinterpret_cast<const uint4*>(tables_.wider_than[c]);
      std::uint32_t code[4] = {plane[0][c] & has.x, (plane[1][c] & has.y) | ~has.x,
                               (plane[2][c] & has.z) | ~has.y, (plane[3][c] & has.w) | ~has.z};
      exchange_nibbles(code);
      *reinterpret_cast<uint4*>(own_ + lane * code_pitch + 16 * c) =
          make_uint4(code[0], code[1], code[2], code[3]);
      if (32 * c < wide_count_) look_up_wide(shared, first, c, code);
    }
  }

  __device__ __forceinline__ void operand(int h, std::uint32_t (&a)[D / 16][4]) const {
    const int t = this_lane() % 4;
    const auto column = static_cast<std::uint32_t>(4 * this_lane()), of_fours = column | 128U;
    const auto codes_of = [&](int c, int r) {
      return *reinterpret_cast<const std::uint32_t*>(own_ + code_place_ + (16 * h + 8 * r) * code_pitch +
                                                     16 * c);
    };
#pragma unroll
    for (int c = 0; c < D / 32; ++c) {
      const std::uint32_t of_table = c < whole_chunks_ ? of_fours : column;
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const std::uint32_t codes = codes_of(c, r);
#pragma unroll
        for (int m = 0; m < 4; ++m) a[2 * c + m / 2][m % 2 * 2 + r] = look_up(codes, of_table, m);
      }
    }
    // Of the chunk behind them: eight coordinates of 4 bits and more at a time, then some of eight.
    const auto mend_fours = [&](int c) {
#pragma unroll
      for (int m = 0; m < 4; ++m) {
        if (8 * m >= rest_) break;
        const std::uint32_t halves = 8 * m + 8 <= rest_ ? ~0U : four_halves_;
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          std::uint32_t& pair = a[2 * c + m / 2][m % 2 * 2 + r];
          pair = select_bits(halves, look_up(codes_of(c, r), of_fours, m), pair);
        }
      }
    };
    // A switch of calls, for registers have no index.
    switch (rest_ > 0 ? whole_chunks_ : -1) {
      case 0:
        mend_fours(0);
        break;
      case 1:
        mend_fours(1);
        break;
      case 2:
        if constexpr (D == 128) mend_fours(2);
        break;
      case 3:
        if constexpr (D == 128) mend_fours(3);
        break;
      default:
        break;
    }
    if (wide_count_ == 0) return;
    mend_wide(h, 0, wide_halves_[0], wide_halves_[1], a[0]);
#pragma unroll
    for (int s = 1; s < D / 16; ++s) {
      const int there = wide_count_ - 16 * s - t;
      if (there + t <= 0) break;
      mend_wide(h, s, halves_below(there), halves_below(there - 8), a[s]);
    }
  }

 private:
  // Bytes between keys: of codes, and of the levels of wider coordinates.
  static constexpr int code_pitch = D / 2 + 16;
  static __host__ __device__ constexpr int wide_pitch(int steps) {
    return steps > 0 ? 32 * steps + 8 : 0;
  }

  // The halves, if any, of the coordinates 0 and 4 below `count`.
  static __device__ __forceinline__ std::uint32_t halves_below(int count) {
    return (count > 0 ? 0xFFFFU : 0U) | (count > 4 ? 0xFFFF0000U : 0U);
  }
  __device__ __forceinline__ std::uint8_t* wide_of(int key) const {
    return own_ + warp_size * code_pitch + key * wide_pitch((wide_count_ + 15) / 16);
  }

  // The pair that byte m of the codes names.
  __device__ __forceinline__ std::uint32_t look_up(std::uint32_t codes, std::uint32_t column, int m) const {
    const std::uint32_t at = permute_bytes(codes, column, 0x5504U | static_cast<unsigned>(m) << 4);
    return *reinterpret_cast<const std::uint32_t*>(block_ + at);
  }

  __device__ __forceinline__ void mend_wide(int h, int s, std::uint32_t low, std::uint32_t high,
                                            std::uint32_t (&a)[4]) const {
    const int lane = this_lane();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const uint2 wide =
          *reinterpret_cast<const uint2*>(wide_of(16 * h + 8 * r + lane / 4) + 32 * s + lane % 4 * 8);
      a[r] = select_bits(low, wide.x, a[r]);
      a[2 + r] = select_bits(high, wide.y, a[2 + r]);
    }
  }

  // Of the coordinates from 32 c on those wider than 4 bits. low: bits 0..3, nibble i of word t that of
  // coordinate 32 c + 4 i + t.
  __device__ __forceinline__ void look_up_wide(const std::uint8_t* shared, int first, int c,
                                               const std::uint32_t (&low)[4]) const {
    const int4 start = *reinterpret_cast<const int4*>(head_.start + 4);
    const uint4 has = *reinterpret_cast<const uint4*>(tables_.wider_than[c] + 4);
    const auto plane = [&](int bit, std::uint32_t there) {
      if (there == 0) return 0U;
      std::uint32_t word[1];
      load_bits(shared, first + bit + 32 * c, word);
      return word[0] & there;
    };
    std::uint32_t high[4] = {plane(start.x, has.x), plane(start.y, has.y), plane(start.z, has.z),
                             plane(start.w, has.w)};
    exchange_nibbles(high);
    auto* const halves = reinterpret_cast<std::uint16_t*>(wide_of(this_lane())) + 32 * c;
    const auto* const levels = reinterpret_cast<const std::uint8_t*>(tables_.levels);
    const std::uint32_t* const first_level = tables_.wide_levels + 32 * c;
    const int count = wide_count_ - 32 * c;
#pragma unroll 1
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int t = 0; t < 4; ++t) {
        if (4 * i + t >= count) return;
        const std::uint32_t index = (low[t] >> (4 * i) & 15U) | (high[t] >> (4 * i) & 15U) << 4;
        halves[i / 4 * 16 + 4 * t + i % 4] =
            *reinterpret_cast<const std::uint16_t*>(levels + first_level[4 * i + t] + 2 * index);
      }
    }
  }

  const KeyHead& head_;
  const Tables& tables_;
  const std::uint8_t* const block_;
  std::uint8_t* const own_;
  int code_place_;  // of the lane's codes of the warp's key g
  int wide_count_;
  int whole_chunks_;              // chunks of 32 coordinates all of which have 4 bits or more
  int rest_;                      // such coordinates of the chunk behind them
  std::uint32_t four_halves_;     // of the last eight of those, the lane's halves
  std::uint32_t wide_halves_[2];  // of the first sixteen coordinates, those of wider ones
};

}  // namespace rotorquant::device
