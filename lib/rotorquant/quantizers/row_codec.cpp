#include "rotorquant/quantizers/row_codec.hpp"

#include <cmath>

#include "rotorquant/quantizers/rotated_codec.hpp"

namespace rotorquant {

void RowCodec::encode(const Context& context, HostView<const float> x, Codes<Space::cpu> codes) const {
  parallel_chunks(context, x.rows, vectors_per_block, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      for (std::int64_t c = 0; c < x.cols; ++c) {
        if (!std::isfinite(x.row(r)[c])) refuse_value(r, x.row(r), x.cols);
      }
      encode_row(x.row(r), r, slice(codes, r, 1));
    }
  });
}

void RowCodec::decode(const Context& context, ConstCodes<Space::cpu> codes, HostView<float> x) const {
  parallel_chunks(context, codes.count, vectors_per_block, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) decode_row(slice(codes, r, 1), x.row(r));
  });
}

}  // namespace rotorquant
