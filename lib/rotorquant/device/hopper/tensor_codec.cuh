#pragma once
// The fast path of scalar codecs: any rotation is one orthogonal matrix, and tensor cores multiply by it
// while memory delivers the next rows. A warpgroup takes 64 rows: the vectors (encode) or centroids (decode)
// go from memory to the registers that are the product's left operand; the matrix stays in shared memory; the
// sums are quantized and packed, or scaled and written, by the threads that hold them. Every byte is read and
// written once.
//
// The matrix is the sum of two terms, 2^10 times as large to keep clear of subnormals: fp16 ones in decode,
// so that products err by about 2^-22 of the norm. The encoder's second term, and the rows that it
// multiplies, are e4m3 at twice the speed: products err by 2^-20 of the norm (root mean square; at most 2^-17
// in any of 2.5 million of Gaussian rows, 2^-15.5 where few coordinates make up the row). bf16 rows, and fp16
// ones with norms that e4m3 does not reach, are brought to fp16 by a power of two near their norm. Centroids
// are fp16 in a unit that suits them (half_centroids).
//
// For GPUs of compute capability 9.0, fp16 and bf16 rows, dims up to 256 that are multiples of 8, 1 to 4
// bits and norms in fp16; encode: with no other scale. Everything else takes the general path
// (scalar_rows.cuh).
#include <array>
#include <memory>
#include <optional>

#include "rotorquant/core/element_type.hpp"
#include "rotorquant/device/index_planes.cuh"
#include "rotorquant/device/plane_fragments.cuh"
#include "rotorquant/device/rotation_matrix.hpp"
#include "rotorquant/device/runtime.cuh"
#include "rotorquant/quantizers/scalar_codec.hpp"

namespace rotorquant::device {

// How the index of a coordinate y of a unit vector is found: s = y scale + 1/2 lies between 0 and 1 and falls
// into one of 128 bins, none of which holds, or nearly holds, more than one boundary. The bits of 1 + s as
// float32 plus entry[bin] have the index in their top four bits. Bins near 0 lie in different banks of shared
// memory. For 1 and 4 bits and padded dims; 2 and 3 bits have a faster way (index_planes.cuh).
struct SearchTable {
  static constexpr int bins = 128;
  // Keeps s a bin away from 0 and 1: 4 bins s is rounded to an integer.
  static constexpr float scale = 0.495F;

  std::uint32_t entry[bins];

  // Nothing if boundaries lie too close together or there are more than 15.
  static std::optional<SearchTable> of(const Codebook& codebook);
};

class TensorCodec {
 public:
  // nullptr where this path does not apply, or on another GPU than it is for. Runs on the GPU that is
  // current.
  static std::unique_ptr<TensorCodec> of(const ScalarCodec& codec);

  bool encodes(ElementType type) const { return table_.has_value() && decodes(type); }
  bool decodes(ElementType type) const { return type != ElementType::float32; }
  // x [n, dim], 16-byte aligned like the codes.
  void encode(cudaStream_t stream, const void* x, ElementType type, std::int64_t n, std::uint8_t* codes,
              std::uint8_t* norms, unsigned long long* refusals) const;
  void decode(cudaStream_t stream, const std::uint8_t* codes, const std::uint8_t* norms, std::int64_t n,
              void* x, ElementType type) const;

 private:
  enum class Kind { d64, d80, d96, d128, d192, d256, d256_local };

  TensorCodec() = default;
  template <typename Body>
  static void dispatch(Kind kind, const Body& body);

  Kind kind_ = Kind::d64;
  int dim_ = 0, bits_ = 0;
  std::optional<SearchTable> table_;
  std::optional<MagnitudeCurve> curve_;  // in place of the table, where there is one
  HalfCentroids centroids_{};
  Buffer<std::uint8_t> encode_matrix_, decode_matrix_;
  int processors_ = 0;
};

// Arguments of the kernels; see TensorCodec.
struct TensorEncode {
  const std::uint8_t* matrix;  // of -R
  SearchTable table;
  MagnitudeCurve curve;
  int curve_bits;  // that the curve is for, or 0
  int dim, bits;
  const uint4* x;
  std::int64_t n;
  std::uint8_t* codes;
  __half* norms;
  unsigned long long* refusals;
};
struct TensorDecode {
  const std::uint8_t* matrix;
  HalfCentroids centroids;
  int dim, bits;
  const std::uint8_t* codes;
  const __half* norms;
  std::int64_t n;
  void* x;
  ElementType type;
};
template <typename Shape>
void launch_tensor_encode(cudaStream_t stream, int processors, const TensorEncode& arguments,
                          ElementType type);
template <typename Shape>
void launch_tensor_decode(cudaStream_t stream, int processors, const TensorDecode& arguments);

}  // namespace rotorquant::device
