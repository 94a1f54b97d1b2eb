#pragma once
// Which coordinate of a vector stands where in the tensor-core products of tensor_codec.cuh.
//
// Products sum over their inner indices in any order and columns may stand in any order, so that the orders
// are chosen for the thread's sake: lane (g, t) of a warp, g = lane / 4, t = lane mod 4, writes whole 16-byte
// chunks of rows g and g + 8, and reads and writes whole bytes of their bit planes.
//
//   encode  inner: coordinates in their order. Columns: lane t gets columns / 4 consecutive ones.
//   decode  inner: lane t holds columns / 4 consecutive coordinates. Columns: lane t gets chunks t, t + 4, ....
//
// Dims are padded with zeros to Shape::dim = pieces * columns; a piece is a product of its own: 64 rows times
// `columns` results. Where the matrices of all pieces do not fit in shared memory, blocks come in parts that
// make some pieces each.
#include "rotorquant/device/hopper/wgmma.cuh"

namespace rotorquant::device {

// The matrix's second term: fp16 like the first, or e4m3, 32 inner indices a step of twice the speed.
enum class SecondTerm { half, byte };

// groups: warpgroups of a block, as many as registers allow. local: a result depends on coordinates of its
// own piece and of the 32 next to it on either side alone.
template <int columns_, int pieces_, int groups_, int parts_ = 1, bool local_ = false,
          SecondTerm second_ = SecondTerm::half>
struct TensorShape {
  using WithBytes = TensorShape<columns_, pieces_, groups_, parts_, local_, SecondTerm::byte>;

  static constexpr int columns = columns_;
  static constexpr int pieces = pieces_;
  static constexpr int groups = groups_;
  static constexpr int warps = 4 * groups;
  static constexpr int threads = 32 * warps;
  static constexpr int parts = parts_;
  static constexpr int part_pieces = pieces / parts;
  static constexpr int part_columns = part_pieces * columns;
  static constexpr bool local = local_;
  static_assert(pieces % parts == 0 && !(local && parts > 1));
  static constexpr int dim = pieces * columns;
  static constexpr int steps = dim / wgmma_depth;
  // Lanes hold parts of bytes: for vectors of this very dim, and encode alone.
  static constexpr bool exact = columns % 32 != 0;
  // Decoded rows are written whole, by way of shared memory: faster where 64 bytes of a row are a quarter of
  // it.
  static constexpr bool whole_rows = columns == 128;

  static constexpr int own_steps = columns / wgmma_depth;
  // Steps of one piece's product, and which of all steps its i-th is: its own, two before and two behind them
  // (at the ends of the vector those of the other end, whose entries are zeros).
  static constexpr int piece_steps = local ? own_steps + 4 : steps;
  static_assert(piece_steps <= steps);
  static __host__ __device__ constexpr int step_of(int piece, int i) {
    if (!local || i < own_steps) return (local ? piece * own_steps : 0) + i;
    const int beside = i - own_steps < 2 ? i - own_steps - 2 : i - 2;
    return (piece * own_steps + beside + steps) % steps;
  }
  // The same of an e4m3 term: its step i stands for steps 2 i and 2 i + 1, the last one perhaps for one
  // alone.
  static constexpr bool byte_term = second_ == SecondTerm::byte;
  static constexpr int byte_steps = (steps + 1) / 2, piece_byte_steps = (piece_steps + 1) / 2;
  static_assert(!local || own_steps % 2 == 0);
  // Bytes of one fp16 term of a piece's matrix, and of both terms.
  static constexpr int term_bytes = (piece_steps * wgmma_depth + operand_block_depth - 1) /
                                    operand_block_depth * operand_block_bytes(columns);
  static constexpr int byte_term_bytes = (piece_byte_steps * byte_wgmma_depth + byte_block_depth - 1) /
                                         byte_block_depth * operand_block_bytes(columns);
  static constexpr int piece_bytes = term_bytes + (byte_term ? byte_term_bytes : term_bytes);

  // Bytes of a plane that a lane has in one piece.
  static constexpr int lane_bytes = columns / 32;
  static constexpr int lane_coordinates = columns / 4;

  static __host__ __device__ constexpr int encode_inner(int step, int k) { return wgmma_depth * step + k; }
  static __host__ __device__ constexpr int encode_column(int piece, int n) {
    return columns * piece + lane_coordinates * (n % 8 / 2) + 2 * (n / 8) + n % 2;
  }
  // Nibble words (nibbles.cuh) hold every fourth coordinate; a register is made of two neighbouring nibbles.
  static __host__ __device__ constexpr int decode_inner(int step, int k) {
    const int own = step % own_steps, word = own / 4, pair = k / 8, i = k % 2;
    const bool whole = 16 * word + 16 <= lane_coordinates;
    const int within =
        whole ? 16 * word + 4 * (2 * pair + i) + own % 4 : 16 * word + 4 * i + 2 * (own % 4) + pair;
    return columns * (step / own_steps) + lane_coordinates * (k % 8 / 2) + within;
  }
  static __host__ __device__ constexpr int decode_column(int piece, int n) {
    return columns * piece + 32 * (n / 32) + 8 * (n % 8 / 2) + 2 * (n / 8 % 4) + n % 2;
  }
};

}  // namespace rotorquant::device
