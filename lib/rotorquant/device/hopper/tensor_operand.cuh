#pragma once
// A rotation's matrix as the right operand of the products of tensor_codec.cuh.
#include <cuda_fp8.h>

#include <cstring>
#include <optional>
#include <vector>

#include "rotorquant/core/half.hpp"
#include "rotorquant/device/hopper/tensor_codec.cuh"
#include "rotorquant/device/hopper/tensor_layout.cuh"
#include "rotorquant/device/rotation_matrix.hpp"

namespace rotorquant::device {

// Where inner index i of a piece's product stands in its e4m3 term, whose left operand has in each word the
// two words of one step of the fp16 one (ByteRows).
constexpr int byte_inner(int i) {
  const int step = i / wgmma_depth, k = i % wgmma_depth;
  return wgmma_depth * step + 4 * (k % 8 / 2) + 2 * (k / 8) + k % 2;
}
// The same for column n, in bytes of the term.
template <typename Shape>
constexpr int byte_place(int i, int n) {
  const int k = byte_inner(i);
  return k / byte_block_depth * operand_block_bytes(Shape::columns) +
         byte_operand_offset(n, k % byte_block_depth);
}
inline std::uint8_t to_e4m3(float value) {
  return __nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E4M3);
}

// Both terms of a matrix as the pieces' right operands. entry(result, inner): 0 where either is padding.
// inner_of(step, k), result_of(piece, n): which coordinates stand where. Nothing if the pieces' products
// leave out an entry that is not 0.
template <typename Shape, typename Inner, typename Result, typename Entry>
std::optional<std::vector<std::uint8_t>> operand_of(const Inner& inner_of, const Result& result_of,
                                                    const Entry& entry) {
  std::vector<std::uint8_t> image(Shape::pieces * Shape::piece_bytes, 0);
  std::vector<bool> covered(Shape::dim * Shape::dim, false);
  const auto put = [&](std::size_t at, float value) {
    const std::uint16_t half = float_to_half(value);
    std::memcpy(&image[at], &half, sizeof half);
    return half_to_float(half);
  };
  for (int piece = 0; piece < Shape::pieces; ++piece) {
    for (int i = 0; i < Shape::piece_steps * wgmma_depth; ++i) {
      const int step = Shape::step_of(piece, i / wgmma_depth), k = i % wgmma_depth;
      const int inner = inner_of(step, k);
      for (int n = 0; n < Shape::columns; ++n) {
        const int result = result_of(piece, n);
        const float value = entry(result, inner) * tensor_scale;
        const int at = piece * Shape::piece_bytes +
                       i / operand_block_depth * operand_block_bytes(Shape::columns) +
                       operand_offset(n, i % operand_block_depth);
        const float first = put(static_cast<std::size_t>(at), value);
        if constexpr (Shape::byte_term) {
          const int byte_at = piece * Shape::piece_bytes + Shape::term_bytes + byte_place<Shape>(i, n);
          image[static_cast<std::size_t>(byte_at)] = to_e4m3(value - first);
        } else {
          put(static_cast<std::size_t>(at + Shape::term_bytes), value - first);
        }
        covered[static_cast<std::size_t>(result * Shape::dim + inner)] = true;
      }
    }
  }
  for (int result = 0; result < Shape::dim; ++result) {
    for (int inner = 0; inner < Shape::dim; ++inner) {
      if (entry(result, inner) != 0.0F && !covered[static_cast<std::size_t>(result * Shape::dim + inner)]) {
        return std::nullopt;
      }
    }
  }
  return image;
}

// One e4m3 term of all pieces' right operands: entries as they are.
template <typename Shape, typename Inner, typename Result, typename Entry>
std::vector<std::uint8_t> byte_operand_of(const Inner& inner_of, const Result& result_of,
                                          const Entry& entry) {
  static_assert(!Shape::local);
  std::vector<std::uint8_t> image(Shape::pieces * Shape::byte_term_bytes, 0);
  for (int piece = 0; piece < Shape::pieces; ++piece) {
    for (int i = 0; i < Shape::dim; ++i) {
      for (int n = 0; n < Shape::columns; ++n) {
        const float value = entry(result_of(piece, n), inner_of(i / wgmma_depth, i % wgmma_depth));
        image[static_cast<std::size_t>(piece * Shape::byte_term_bytes + byte_place<Shape>(i, n))] =
            to_e4m3(value);
      }
    }
  }
  return image;
}

template <typename Shape, typename Entry>
auto encode_operand_of(const Entry& entry) {
  return operand_of<Shape>(Shape::encode_inner, Shape::encode_column, entry);
}
template <typename Shape, typename Entry>
auto decode_operand_of(const Entry& entry) {
  return operand_of<Shape>(Shape::decode_inner, Shape::decode_column, entry);
}

// Whether the GPU that is current has these kernels' instructions.
inline bool is_this_architecture() {
  int gpu = 0, major = 0, minor = 0;
  check(cudaGetDevice(&gpu), "choice of a GPU");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, gpu), "look-up of the GPU");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, gpu), "look-up of the GPU");
  return major == 9 && minor == 0;
}

}  // namespace rotorquant::device
