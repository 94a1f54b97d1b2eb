#include "rotorquant/quantizers/pca_codec.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "rotorquant/codes/bit_allocation.hpp"
#include "rotorquant/quantizers/rotated_codec.hpp"
#include "rotorquant/quantizers/scalar_codec.hpp"

namespace rotorquant {
namespace {

constexpr std::int64_t bits_of_a_norm = 16;

std::vector<std::uint8_t> widths_of(const KeyStatistics& statistics, int bits) {
  const std::vector<double> variances(statistics.variances.begin(), statistics.variances.end());
  return allocate_widths(variances, bits * statistics.dim() + bits_of_a_norm, lloyd_max_distortions());
}

}  // namespace

PcaCodec::PcaCodec(const KeyStatistics& statistics, int bits)
    : statistics_(statistics), widths_(widths_of(statistics, bits)), planes_(widths_) {
  statistics_.validate();
  for (int width = 1; width <= max_width; ++width) {
    std::vector<float> levels;
    for (const double level : lloyd_max_normal_levels(width)) levels.push_back(static_cast<float>(level));
    codebooks_.push_back(Codebook::from_centroids(std::move(levels)));
  }
  // The bits of the layout do not depend on the statistics: where widths end at 8, the rest is padding.
  const std::int64_t stored = (bits * statistics_.dim() + bits_of_a_norm + 7) / 8 * 8;
  layout_ = {statistics_.dim(), {{"indices", {{FieldKind::index, planes_.bits()}}}}};
  if (stored > planes_.bits())
    layout_.arrays[0].fields.push_back({FieldKind::padding, stored - planes_.bits()});
}

void PcaCodec::encode(const Context& context, HostView<const float> x, Codes<Space::cpu> codes) const {
  const std::int64_t bytes = layout_.bytes_per_vector();
  parallel_chunks(context, x.rows, vectors_per_block, [&](std::int64_t begin, std::int64_t end) {
    std::vector<std::uint8_t> symbols(static_cast<std::size_t>(planes_.symbol_bytes()), 0);
    for (std::int64_t r = begin; r < end; ++r) {
      const float* row = x.row(r);
      for (std::int64_t c = 0; c < dim(); ++c) {
        if (!std::isfinite(row[c])) refuse_value(r, row, dim());
      }
      for (std::int64_t position = 0; position < dim(); ++position) {
        const auto i = static_cast<std::size_t>(planes_.order()[static_cast<std::size_t>(position)]);
        if (widths_[i] == 0) break;  // so are all that follow
        double y = 0.0;
        for (std::int64_t c = 0; c < dim(); ++c) {
          y +=
              static_cast<double>(
                  statistics_.components[i * static_cast<std::size_t>(dim()) + static_cast<std::size_t>(c)]) *
              (static_cast<double>(row[c]) -
               static_cast<double>(statistics_.mean[static_cast<std::size_t>(c)]));
        }
        const auto scaled = static_cast<float>(y / std::sqrt(static_cast<double>(statistics_.variances[i])));
        quantize_coordinates(codebooks_[widths_[i] - 1U], &scaled, 1,
                             &symbols[static_cast<std::size_t>(position)]);
      }
      std::uint8_t* code = codes.arrays[0] + r * bytes;
      std::fill_n(code, bytes, std::uint8_t{0});
      trellis::BitWriter writer(code);
      planes_.write(symbols.data(), writer);
      writer.finish();
    }
  });
}

void PcaCodec::decode(const Context& context, ConstCodes<Space::cpu> codes, HostView<float> x) const {
  const std::int64_t bytes = layout_.bytes_per_vector();
  parallel_chunks(context, codes.count, vectors_per_block, [&](std::int64_t begin, std::int64_t end) {
    std::vector<std::uint8_t> symbols(static_cast<std::size_t>(planes_.symbol_bytes()));
    std::vector<double> sums(static_cast<std::size_t>(dim()));
    for (std::int64_t r = begin; r < end; ++r) {
      planes_.read({codes.arrays[0] + r * bytes, static_cast<std::size_t>(bytes)}, 0, symbols.data());
      sums.assign(statistics_.mean.begin(), statistics_.mean.end());
      for (std::int64_t position = 0; position < dim(); ++position) {
        const auto i = static_cast<std::size_t>(planes_.order()[static_cast<std::size_t>(position)]);
        if (widths_[i] == 0) break;
        const float level =
            codebooks_[widths_[i] - 1U].centroids[symbols[static_cast<std::size_t>(position)]];
        const double value =
            std::sqrt(static_cast<double>(statistics_.variances[i])) * static_cast<double>(level);
        for (std::size_t c = 0; c < sums.size(); ++c)
          sums[c] += value * static_cast<double>(statistics_.components[i * sums.size() + c]);
      }
      for (std::size_t c = 0; c < sums.size(); ++c) x.row(r)[c] = static_cast<float>(sums[c]);
    }
  });
}

}  // namespace rotorquant
