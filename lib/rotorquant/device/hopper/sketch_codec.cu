#include <algorithm>
#include <array>

#include "rotorquant/device/hopper/sketch_codec.cuh"
#include "rotorquant/device/hopper/sketch_decode.cuh"
#include "rotorquant/device/hopper/sketch_encode.cuh"
#include "rotorquant/device/hopper/tensor_operand.cuh"
#include "rotorquant/device/plane_scores.cuh"

namespace rotorquant::device {
namespace {

// The first that is not narrower than the vectors.
using Shape64 = TensorShape<64, 1, 3>;
using Shape96 = TensorShape<96, 1, 3>;
using Shape128 = TensorShape<64, 2, 3>;

constexpr int most_sketched_dim = 128;

// S R^T [dim, dim], in float64 until the last rounding.
std::vector<float> rotated_sketch(const std::vector<float>& sketch, const std::vector<float>& rotation,
                                  std::size_t dim) {
  std::vector<float> product(dim * dim);
  for (std::size_t i = 0; i < dim; ++i) {
    for (std::size_t k = 0; k < dim; ++k) {
      double sum = 0.0;
      for (std::size_t j = 0; j < dim; ++j)
        sum += static_cast<double>(sketch[i * dim + j]) * static_cast<double>(rotation[k * dim + j]);
      product[i * dim + k] = static_cast<float>(sum);
    }
  }
  return product;
}

}  // namespace

template <typename Body>
void SketchCodec::dispatch(const Body& body) const {
  if (dim_ <= Shape64::dim) {
    body.template operator()<Shape64>();
  } else if (dim_ <= Shape96::dim) {
    body.template operator()<Shape96>();
  } else {
    body.template operator()<Shape128>();
  }
}

std::unique_ptr<SketchCodec> SketchCodec::of(const ProdCodec& codec) {
  const ScalarCodec& stage1 = codec.stage1();
  const int dim = static_cast<int>(codec.dim());
  if (!is_this_architecture() || stage1.rotation().output_dim() != codec.dim() || dim % 8 != 0 ||
      dim > most_sketched_dim || codec.sketch().sketch_dim() != codec.dim() ||
      stage1.codebook().bits() > most_tensor_bits || stage1.norm_type() != NormType::fp16 ||
      stage1.scale_rule() == ScaleRule::none || !is_symmetric(stage1.codebook())) {
    return nullptr;
  }
  auto made = std::unique_ptr<SketchCodec>(new SketchCodec);
  made->dim_ = dim;
  made->bits_ = stage1.codebook().bits();
  made->factor_ = codec.sketch().factor();
  if (stage1.scale_rule() == ScaleRule::norm) {
    made->table_ = SearchTable::of(stage1.codebook());
    made->curve_ = MagnitudeCurve::of(stage1.codebook());
  }
  made->centroids_ = half_centroids(stage1.codebook());
  made->levels_ = stage1.codebook().centroids;
  int gpu = 0;
  check(cudaGetDevice(&gpu), "choice of a GPU");
  check(cudaDeviceGetAttribute(&made->processors_, cudaDevAttrMultiProcessorCount, gpu),
        "look-up of the GPU");
  const std::vector<float> rotation = matrix_of(stage1.rotation());
  const std::vector<float>& sketch = codec.sketch().matrix();
  const std::vector<float> projection = rotated_sketch(sketch, rotation, static_cast<std::size_t>(dim));
  const auto entry_of = [dim](const std::vector<float>& matrix, int row, int column) {
    return row < dim && column < dim ? matrix[static_cast<std::size_t>(row * dim + column)] : 0.0F;
  };
  made->dispatch([&]<typename Shape>() {
    // What the first product's columns hold are the inner indices of the second.
    const auto column = [](int step, int k) {
      return Shape::encode_column(step / Shape::own_steps, step % Shape::own_steps * wgmma_depth + k);
    };
    made->rotation_ = Buffer<std::uint8_t>(
        *encode_operand_of<Shape>([&](int result, int inner) { return -entry_of(rotation, result, inner); }));
    using Bytes = typename Shape::WithBytes;
    made->projection_ =
        Buffer<std::uint8_t>(*operand_of<Bytes>(column, Shape::encode_column, [&](int result, int inner) {
          return entry_of(projection, result, inner);
        }));
    made->byte_projection_ =
        Buffer<std::uint8_t>(byte_operand_of<Bytes>(column, Shape::encode_column, [&](int result, int inner) {
          return entry_of(projection, result, inner) * (tensor_scale / byte_rest_scale);
        }));
    made->rotation_back_ = Buffer<std::uint8_t>(
        *decode_operand_of<Shape>([&](int result, int inner) { return entry_of(rotation, inner, result); }));
    made->projection_back_ = Buffer<std::uint8_t>(
        *decode_operand_of<Shape>([&](int result, int inner) { return entry_of(sketch, inner, result); }));
  });
  return made;
}

void SketchCodec::encode(cudaStream_t stream, const void* x, ElementType type, std::int64_t n,
                         const TwoStageArrays<std::uint8_t>& codes, unsigned long long* refusals) const {
  if (n == 0) return;
  SketchEncode arguments{
      {rotation_.data(), *table_, curve_.value_or(MagnitudeCurve{}), curve_ ? bits_ : 0, dim_, bits_,
       static_cast<const uint4*>(x), n, codes.indices, reinterpret_cast<__half*>(codes.norms), refusals},
      projection_.data(),
      byte_projection_.data(),
      {},
      codes.signs,
      reinterpret_cast<__half*>(codes.residual_norms)};
  std::copy(levels_.begin(), levels_.end(), arguments.levels);
  dispatch([&]<typename Shape>() { launch_sketch_encode<Shape>(stream, processors_, arguments, type); });
}

void SketchCodec::decode(cudaStream_t stream, const TwoStageArrays<const std::uint8_t>& codes, std::int64_t n,
                         void* x, ElementType type) const {
  if (n == 0) return;
  const auto half = [](const std::uint8_t* norms) { return reinterpret_cast<const __half*>(norms); };
  const SketchDecode arguments{
      {rotation_back_.data(), centroids_, dim_, bits_, codes.indices, half(codes.norms), n, x, type},
      {projection_back_.data(), sign_centroids(factor_), dim_, 1, codes.signs, half(codes.residual_norms), n,
       x, type}};
  dispatch([&]<typename Shape>() { launch_sketch_decode<Shape>(stream, processors_, arguments); });
}

}  // namespace rotorquant::device
