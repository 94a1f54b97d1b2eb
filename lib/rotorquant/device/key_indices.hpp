#pragma once
// Where the levels of calibrated keys are, as an integer product with the bits of their codes.
//
// Coordinates come from tables: a scalar level by the bits of its symbol, a trellis level by those of its
// register and the symbol's upper ones. An index is a sum of bits times powers of two, so that the indices of
// all coordinates are one product of the code's bits, a byte each, with a matrix of bytes, whatever the
// widths and wherever the bits are: tensor cores make the address of every level.
//
// Two coordinates in one entry halve the look-ups: any two scalar ones of up to 4 bits each, and trellis ones
// that are neighbours among those with bits, of up to 3 bits each: their registers have six bits of seven.
//
//   slots    inner indices of the product, bytes 0 or 2^place: groups of D bits of the code, of plane 0
//            first, then of what follows that, then a tail of 32, whose last two are always set: they say
//            where a column's table begins. Of scalar levels most of which have one or two bits
//            (`scalar_twos`) a slot has two bits, of neighbours, times 2^place: a group has half the slots.
//            Then there are two groups, planes 0 and 1, and all else is in the tail.
//   columns  addresses in bytes. Of the D / 16 steps of the product that the levels go to, the first ones'
//            coordinates have columns of their own, those of the others one a pair.
#include <cstdint>
#include <vector>

#include "rotorquant/quantizers/calibrated.hpp"

namespace rotorquant::device {

inline constexpr int index_block_slots = 128;  // a block of the right operand: so many bytes a column
inline constexpr int tail_bits = 30;
inline constexpr int register_bits = 6;  // of a trellis of memory 5

enum class KeyCode { scalar, scalar_twos, trellis };

// The bit of its byte at which a slot's lowest bit is, of plane 0, of groups behind it and of the tail:
// weights are then bytes. And how many bits a group's slot has.
struct SlotBits {
  int plane_place, upper_place, tail_place, each;
};
constexpr SlotBits slot_bits(KeyCode code) {
  if (code == KeyCode::scalar) return {2, 2, 2, 1};
  if (code == KeyCode::scalar_twos) return {2, 2, 6, 2};
  return {1, 7, 7, 1};
}

struct IndexShape {
  int dim;
  int single_steps;  // of 16 coordinates, that have columns of their own: 0, 2 or all
  KeyCode code;

  constexpr int columns() const { return 16 * single_steps + 8 * (dim / 16 - single_steps); }
  // Columns are multiplied in so many parts, for the registers' sake.
  constexpr int parts() const { return columns() > 80 ? 2 : 1; }
  // The column of an inner index of the levels' product, or of the pair that it is the first of.
  constexpr int column_of(int inner) const {
    const int step = inner / 16;
    return step < single_steps ? inner : 8 * (single_steps + step) + inner % 8 + inner % 16 / 8;
  }

  constexpr int group_steps() const { return dim / 32 / slot_bits(code).each; }  // of 32 slots
  constexpr int steps(int groups) const { return (1 + groups) * group_steps() + 1; }
  // Of plane 0, of groups 0, 1, ... of what follows it, and of the tail.
  constexpr int plane_step() const { return 0; }
  constexpr int group_step(int group) const { return (1 + group) * group_steps(); }
  constexpr int tail_step(int groups) const { return group_step(groups); }
  // Lane t of four has D / 4 consecutive bits of a group: a word, of whose bytes step s takes the slots 2 s
  // and 2 s + 1; or half of one, spread over the low nibbles.
  constexpr int slot_of(int first_step, int bit) const {
    const int each = dim / 4, t = bit / each, within = bit % each;
    const int byte = dim == 128 ? within / 8 : within / 8 + within / 4 % 2 * 2;
    const int m = within % (dim / 16) / slot_bits(code).each;
    return 32 * (first_step + m / 2) + 16 * (m % 2) + 4 * t + byte;
  }
  constexpr int tail_slot(int groups, int bit) const {
    return 32 * tail_step(groups) + 16 * (bit / 4 % 2) + 4 * (bit / 8) + bit % 4;
  }
  // Where a slot of a column is in the right operand (hopper/wgmma.cuh), and the operand's bytes.
  constexpr int place(int slot, int column) const {
    const int chunk = slot % index_block_slots / 16;
    return (slot / index_block_slots * columns() + column) * index_block_slots + (chunk ^ column % 8) * 16 +
           slot % 16;
  }
  constexpr int bytes(int groups) const {
    return (32 * steps(groups) + index_block_slots - 1) / index_block_slots * columns() * index_block_slots;
  }
};

struct KeyIndices {
  std::vector<int> inner;             // [dim], of each storage position
  int groups;                         // of D bits behind plane 0
  int tail_bit;                       // of the code, where the tail begins
  std::vector<std::uint8_t> weights;  // the right operand
  std::vector<std::uint8_t> tables;   // fp16: pairs, or one in the lower half
};

KeyCode key_code(const CalibratedCodec& codec);
// The fewest single steps that the codec's coordinates need.
int single_steps(const CalibratedCodec& codec);
KeyIndices key_indices(const CalibratedCodec& codec, const IndexShape& shape);

}  // namespace rotorquant::device
