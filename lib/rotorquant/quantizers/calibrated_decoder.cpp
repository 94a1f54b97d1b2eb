// The decoder of calibrated keys (calibrated.hpp): levels in columns, the inverse cascade, rows.
#include <algorithm>
#include <string>

#include "rotorquant/core/error.hpp"
#include "rotorquant/core/scaled_rows.hpp"
#include "rotorquant/core/scratch.hpp"
#include "rotorquant/quantizers/calibrated.hpp"

namespace rotorquant {

void CalibratedCodec::decode(const Context& context, ConstCodes<Space::cpu> codes, HostView<float> x) const {
  decode_tensor(context, codes, {x.data, ElementType::float32, x.rows, x.cols});
}

void CalibratedCodec::decode_tensor(const Context& context, ConstCodes<Space::cpu> codes,
                                    const HostTensor& x) const {
  const bool stream = codes.count * x.cols * element_bytes(x.type) >= streamed_bytes;
  parallel_chunks(context, codes.count, vectors_per_chunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; r += cascade_lanes) {
      const std::int64_t count = std::min(cascade_lanes, end - r);
      decode_block(codes.arrays[0] + r * code_.bytes, r, stream, x.row_range(r, count));
    }
    if (stream) finish_streams();
  });
}

void CalibratedCodec::decode_block(const std::uint8_t* codes, std::int64_t first_row, bool stream,
                                   const HostTensor& x) const {
  static thread_local ScratchFloats scratch;
  float* columns = scratch.reserve(layout_.dim * cascade_lanes);
  const BlockFields fields = trellis_ ? read_trellis(codes, x.rows, columns)
                                      : read_levels(isa_, code_, *level_tables_, codes, x.rows, columns);
  const auto keys = std::span(fields.centroids).first(static_cast<std::size_t>(x.rows));
  const std::int64_t centroids = parameters_->num_centroids();
  const auto unknown =
      std::find_if(keys.begin(), keys.end(), [&](std::int32_t named) { return named >= centroids; });
  if (unknown != keys.end()) {
    throw Error("decode: row " + std::to_string(first_row + (unknown - keys.begin())) + " names centroid " +
                std::to_string(*unknown) + "; valid: 0.." + std::to_string(centroids - 1));
  }
  alignas(64) std::array<float, cascade_lanes> scales{};
  for (std::size_t v = 0; v < keys.size(); ++v) scales[v] = scale_of(fields.scale_codes[v]);
  run_steps(isa_, inverse_stages_.rest, columns);
  write_rows(isa_, columns, scales.data(), fields.centroids.data(), offset_tables_, stream, x);
}

BlockFields CalibratedCodec::read_trellis(const std::uint8_t* codes, std::int64_t count,
                                          float* columns) const {
  static thread_local CalibratedTrellis::Workspace workspace;
  static thread_local std::vector<std::uint8_t> symbols;
  static thread_local std::vector<float> values;
  symbols.resize(static_cast<std::size_t>(planes_.symbol_bytes()));
  values.resize(inverse_.slots.size());
  for (std::int64_t v = 0; v < count; ++v) {
    planes_.read({codes + v * code_.bytes, static_cast<std::size_t>(code_.bytes)}, 0, symbols.data());
    trellis_->decode(symbols.data(), values.data(), workspace);
    for (std::size_t k = 0; k < values.size(); ++k)
      columns[inverse_.slots[k] * cascade_lanes + v] = values[k] * inverse_.scales[k];
  }
  run_steps(isa_, inverse_stages_.first, columns);
  return read_fields(code_, codes, count);
}

}  // namespace rotorquant
