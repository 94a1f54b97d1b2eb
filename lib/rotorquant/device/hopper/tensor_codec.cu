#include <algorithm>
#include <cmath>
#include <span>

#include "rotorquant/core/half.hpp"
#include "rotorquant/device/hopper/tensor_codec.cuh"
#include "rotorquant/device/hopper/tensor_decode.cuh"
#include "rotorquant/device/hopper/tensor_encode.cuh"
#include "rotorquant/device/hopper/tensor_operand.cuh"
#include "rotorquant/device/plane_scores.cuh"

namespace rotorquant::device {
namespace {

// Shapes of each kind's kernels, the fastest of those tried on an H100.
struct Kind64 {
  using Encode = TensorShape<64, 1, 4>::WithBytes;
  using Decode = TensorShape<64, 1, 4>;
};
struct Kind80 {
  using Encode = TensorShape<80, 1, 3>::WithBytes;
  using Decode = TensorShape<96, 1, 3>;
};
struct Kind96 {
  using Encode = TensorShape<96, 1, 3>::WithBytes;
  using Decode = TensorShape<96, 1, 3>;
};
struct Kind128 {
  using Encode = TensorShape<64, 2, 3>::WithBytes;
  using Decode = TensorShape<128, 1, 2>;
};
struct Kind192 {
  using Encode = TensorShape<64, 3, 2>::WithBytes;
  using Decode = TensorShape<64, 3, 2>;
};
struct Kind256 {
  using Encode = TensorShape<64, 4, 2, 2>::WithBytes;
  using Decode = TensorShape<64, 4, 2, 2>;
};
struct LocalKind256 {
  using Encode = TensorShape<64, 4, 2, 1, true>::WithBytes;
  using Decode = TensorShape<64, 4, 2, 1, true>;
};

template <typename Kind>
bool make_operands(std::span<const float> matrix, int dim, Buffer<std::uint8_t>& encode,
                   Buffer<std::uint8_t>& decode) {
  if (Kind::Encode::exact ? dim != Kind::Encode::dim : dim > Kind::Encode::dim) return false;
  const auto entry = [&](int row, int column) {
    return row < dim && column < dim ? matrix[static_cast<std::size_t>(row * dim + column)] : 0.0F;
  };
  const auto forward =
      encode_operand_of<typename Kind::Encode>([&](int result, int inner) { return -entry(result, inner); });
  const auto backward =
      decode_operand_of<typename Kind::Decode>([&](int result, int inner) { return entry(inner, result); });
  if (!forward || !backward) return false;
  encode = Buffer<std::uint8_t>(*forward);
  decode = Buffer<std::uint8_t>(*backward);
  return true;
}

}  // namespace

std::optional<SearchTable> SearchTable::of(const Codebook& codebook) {
  constexpr double steps = 0x1p23;  // of s, in float32 between 1 and 2
  constexpr std::uint32_t one =
      0x3F800000;  // the bits of 1 as float32; those of 1 + s are this much more than s in steps
  // Kernels round 4 bins s to an integer before they drop its last two bits: bin i is what lies this much
  // lower.
  constexpr double lower = 0.5 / (4 * bins);
  constexpr double unsure = 1e-6;  // how far rounding may move s
  if (codebook.bits() > most_tensor_bits) return std::nullopt;
  const auto place_of = [](float value) {
    return 0.5 + static_cast<double>(value) * static_cast<double>(scale);
  };
  SearchTable table{};
  for (int bin = 0; bin < bins; ++bin) {
    const double begin = static_cast<double>(bin) / bins - lower - unsure;
    const double end = static_cast<double>(bin + 1) / bins - lower + unsure;
    std::uint32_t below = 0, inside = 0;
    double boundary = 0.0;
    for (const float value : codebook.boundaries) {
      const double place = place_of(value);
      if (place < begin) {
        ++below;
      } else if (place < end) {
        ++inside;
        boundary = place;
      }
    }
    if (inside > 1) return std::nullopt;
    std::uint32_t& entry = table.entry[bin];
    entry = (below << 28) - one;
    // Above the boundary a carry makes it the next index.
    if (inside == 1) entry += (1U << 28) - 1U - static_cast<std::uint32_t>(std::llround(boundary * steps));
  }
  return table;
}

std::unique_ptr<TensorCodec> TensorCodec::of(const ScalarCodec& codec) {
  const int dim = static_cast<int>(codec.dim());
  if (!is_this_architecture() || codec.rotation().output_dim() != codec.dim() || dim % 8 != 0 || dim > 256 ||
      codec.codebook().bits() > most_tensor_bits || codec.norm_type() != NormType::fp16 ||
      codec.scale_rule() == ScaleRule::none || !is_symmetric(codec.codebook())) {
    return nullptr;
  }
  auto made = std::unique_ptr<TensorCodec>(new TensorCodec);
  made->dim_ = dim;
  made->bits_ = codec.codebook().bits();
  if (codec.scale_rule() == ScaleRule::norm) {
    made->table_ = SearchTable::of(codec.codebook());
    made->curve_ = MagnitudeCurve::of(codec.codebook());
  }
  made->centroids_ = half_centroids(codec.codebook());
  int gpu = 0;
  check(cudaGetDevice(&gpu), "choice of a GPU");
  check(cudaDeviceGetAttribute(&made->processors_, cudaDevAttrMultiProcessorCount, gpu),
        "look-up of the GPU");
  const std::vector<float> matrix = matrix_of(codec.rotation());
  for (const Kind kind :
       {Kind::d64, Kind::d80, Kind::d96, Kind::d128, Kind::d192, Kind::d256_local, Kind::d256}) {
    made->kind_ = kind;
    bool fits = false;
    dispatch(kind, [&]<typename Of>() {
      fits = make_operands<Of>(matrix, dim, made->encode_matrix_, made->decode_matrix_);
    });
    if (fits) return made;
  }
  return nullptr;
}

template <typename Body>
void TensorCodec::dispatch(Kind kind, const Body& body) {
  switch (kind) {
    case Kind::d64:
      return body.template operator()<Kind64>();
    case Kind::d80:
      return body.template operator()<Kind80>();
    case Kind::d96:
      return body.template operator()<Kind96>();
    case Kind::d128:
      return body.template operator()<Kind128>();
    case Kind::d192:
      return body.template operator()<Kind192>();
    case Kind::d256_local:
      return body.template operator()<LocalKind256>();
    case Kind::d256:
      return body.template operator()<Kind256>();
  }
}

void TensorCodec::encode(cudaStream_t stream, const void* x, ElementType type, std::int64_t n,
                         std::uint8_t* codes, std::uint8_t* norms, unsigned long long* refusals) const {
  if (n == 0) return;
  const TensorEncode arguments{encode_matrix_.data(),
                               *table_,
                               curve_.value_or(MagnitudeCurve{}),
                               curve_ ? bits_ : 0,
                               dim_,
                               bits_,
                               static_cast<const uint4*>(x),
                               n,
                               codes,
                               reinterpret_cast<__half*>(norms),
                               refusals};
  dispatch(kind_, [&]<typename Of>() {
    launch_tensor_encode<typename Of::Encode>(stream, processors_, arguments, type);
  });
}

void TensorCodec::decode(cudaStream_t stream, const std::uint8_t* codes, const std::uint8_t* norms,
                         std::int64_t n, void* x, ElementType type) const {
  if (n == 0) return;
  const TensorDecode arguments{decode_matrix_.data(),
                               centroids_,
                               dim_,
                               bits_,
                               codes,
                               reinterpret_cast<const __half*>(norms),
                               n,
                               x,
                               type};
  dispatch(kind_,
           [&]<typename Of>() { launch_tensor_decode<typename Of::Decode>(stream, processors_, arguments); });
}

}  // namespace rotorquant::device
