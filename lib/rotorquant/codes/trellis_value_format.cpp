#include "rotorquant/codes/trellis_value_format.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "rotorquant/codes/bit_string.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant {
namespace {

constexpr std::size_t header_bytes = 2;
constexpr float levels_per_unit = 32.0F;  // int8 levels are in units of 1/32
constexpr int scale_codes = 256;

// Planes are moved eight symbols at a time, so that the last group may reach beyond the last symbol.
using SymbolBuffer = std::array<std::uint8_t, max_trellis_dim + 8>;

std::vector<std::uint16_t> extra_positions(int dim, int bits) {
  std::vector<std::uint16_t> positions;
  if (bits == max_trellis_width) return positions;
  const int count = std::min(dim, 8);
  const int shift = dim >= 33 ? 4 : dim / 16;
  for (int j = 0; j < count; ++j) {
    positions.push_back(static_cast<std::uint16_t>(dim < 8 ? j : j * dim / 8 + shift));
  }
  return positions;
}

std::vector<std::uint8_t> symbol_widths(int dim, int bits) {
  if (dim < 1 || dim > max_trellis_dim || bits < 1 || bits > max_trellis_width) {
    throw Error("the trellis value format of " + std::to_string(dim) + " coordinates at " +
                std::to_string(bits) + " bits is not supported; valid: 1.." +
                std::to_string(max_trellis_dim) + " coordinates at 1..8 bits");
  }
  std::vector<std::uint8_t> widths(static_cast<std::size_t>(dim), static_cast<std::uint8_t>(bits));
  for (const std::uint16_t t : extra_positions(dim, bits)) ++widths[t];
  return widths;
}

// Sum of a[t] * b[t]: eight interleaved partial sums, which vectorize, then added in order.
double inner_product(const float* a, const float* b, int dim) {
  double partial[8] = {};
  int t = 0;
  for (; t + 8 <= dim; t += 8) {
    for (int i = 0; i < 8; ++i) partial[i] += static_cast<double>(a[t + i]) * static_cast<double>(b[t + i]);
  }
  for (; t < dim; ++t) partial[t % 8] += static_cast<double>(a[t]) * static_cast<double>(b[t]);
  double sum = 0.0;
  for (const double value : partial) sum += value;
  return sum;
}

}  // namespace

TrellisValueFormat::TrellisValueFormat(int dim, int bits, int memory, const TrellisValueOptions& options)
    : TrellisValueFormat(dim, bits, TrellisCodebook::shipped(memory), options) {}

TrellisValueFormat::TrellisValueFormat(int dim, int bits, std::shared_ptr<const TrellisCodebook> codebook,
                                       const TrellisValueOptions& options)
    : bits_(bits),
      scale_trials_(options.scale_trials),
      extra_(extra_positions(dim, bits)),
      code_(symbol_widths(dim, bits), std::move(codebook), options.isa),
      decoder_(trellis::plane_decoder(code_.memory(), bits, options.isa)) {
  if (std::abs(options.offset) > max_scale_offset) {
    throw Error("scale offset " + std::to_string(options.offset) + " is out of range; valid: -" +
                std::to_string(max_scale_offset) + ".." + std::to_string(max_scale_offset));
  }
  if (options.scale_trials < 1 || options.scale_trials > max_scale_trials) {
    throw Error(std::to_string(options.scale_trials) + " scale trials are not supported; valid: 1.." +
                std::to_string(max_scale_trials));
  }
  scales_[0] = 0.0F;
  for (int c = 1; c < scale_codes; ++c) {
    scales_[static_cast<std::size_t>(c)] =
        static_cast<float>(std::ldexp(std::exp2((c - 128) / 16.0), options.offset));
  }
  if (!extra_.empty()) extra_values_ = code_.codebook().levels(bits_ + 1).values().data();
  arrange_for_decoder();
}

// Lays the levels of width bits_ out for decoder_, or clears it where they are not multiples of 1/32 that fit
// int8.
void TrellisValueFormat::arrange_for_decoder() {
  if (decoder_ == nullptr) return;
  const TrellisLevels& table = code_.codebook().levels(bits_);
  const std::size_t registers = std::size_t{2} << table.memory();
  const std::size_t rows = table.values().size() / registers;
  byte_levels_.assign(rows, {});
  pair_levels_.assign((rows + 1) / 2 * 2, {});
  auto* const levels = reinterpret_cast<std::int8_t*>(byte_levels_.data());
  auto* const pairs = reinterpret_cast<std::uint8_t*>(pair_levels_.data());
  for (std::size_t u = 0; u < rows; ++u) {
    for (std::size_t r = 0; r < registers; ++r) {
      const float level = table.values()[u * registers + r] * levels_per_unit;
      if (level != std::nearbyint(level) || level < -128.0F || level > 127.0F) {
        decoder_ = nullptr;
        return;
      }
      levels[u * 64 + r] = static_cast<std::int8_t>(level);
      const auto byte = static_cast<std::uint8_t>(levels[u * 64 + r]);
      pairs[(u / 2 * 64 + r) * 2 + u % 2] = byte;
      if (rows == 1) pairs[r * 2 + 1] = byte;
    }
  }
}

int TrellisValueFormat::nearest_scale_code(double scale) const {
  const auto above =
      std::ranges::lower_bound(scales_, scale, {}, [](float s) { return static_cast<double>(s); });
  if (above == scales_.begin()) return 0;
  if (above == scales_.end()) return scale_codes - 1;
  const bool upper = static_cast<double>(*above) - scale < scale - static_cast<double>(*(above - 1));
  return static_cast<int>(above - scales_.begin()) - (upper ? 0 : 1);
}

// Encodes y at the scale of `code` and fits the scale to the outcome. Symbols are left in the workspace;
// returns the fitted code, and in `gain` by how much it lowers the squared error below that of a zero vector.
int TrellisValueFormat::try_scale(const float* y, int code, TrellisWorkspace& workspace, double& gain) const {
  const int d = dim();
  // The trellis sees y divided by a scale that can be stored, and not by the exact root mean square: its
  // choices then make up for the rounding of the scale.
  const float inverse = 1.0F / scales_[static_cast<std::size_t>(code)];
  for (int t = 0; t < d; ++t) workspace.normalized[static_cast<std::size_t>(t)] = y[t] * inverse;
  code_.encode(workspace.normalized.data(), nullptr, workspace.symbols.data(), workspace);
  code_.decode(workspace.symbols.data(), workspace.decoded.data());
  const double energy = inner_product(workspace.decoded.data(), workspace.decoded.data(), d);
  const double projection = inner_product(y, workspace.decoded.data(), d);
  const int fitted = energy > 0.0 ? nearest_scale_code(projection / energy) : 0;
  const auto scale = static_cast<double>(scales_[static_cast<std::size_t>(fitted)]);
  gain = scale * (2.0 * projection - scale * energy);
  return fitted;
}

void TrellisValueFormat::encode(const float* y, std::uint8_t* bytes, TrellisWorkspace& workspace) const {
  const int d = dim();
  std::fill_n(bytes, bytes_per_vector(), std::uint8_t{0});
  const double root_mean_square = std::sqrt(inner_product(y, y, d) / d);
  const int nearest = nearest_scale_code(root_mean_square);
  if (nearest == 0) return;
  workspace.normalized.resize(static_cast<std::size_t>(d));
  workspace.decoded.resize(static_cast<std::size_t>(d));
  workspace.symbols.resize(static_cast<std::size_t>(d));
  double best_gain = 0.0;
  // Outward from the nearest code, first to the side on which the root mean square lies.
  const int side =
      static_cast<double>(scales_[static_cast<std::size_t>(nearest)]) < root_mean_square ? 1 : -1;
  for (int trial = 0; trial < scale_trials_; ++trial) {
    const int code = nearest + side * (trial % 2 == 1 ? (trial + 1) / 2 : -trial / 2);
    if (code < 1 || code >= scale_codes) continue;
    double gain = 0.0;
    const int fitted = try_scale(y, code, workspace, gain);
    if (gain <= best_gain) continue;
    best_gain = gain;
    bytes[0] = static_cast<std::uint8_t>(fitted);
    pack(workspace.symbols.data(), bytes);
  }
}

void TrellisValueFormat::decode(const std::uint8_t* bytes, float* y_hat) const {
  if (bytes[0] == 0) {
    std::fill_n(y_hat, dim(), 0.0F);
    return;
  }
  const float scale = scales_[bytes[0]];
  if (decoder_ == nullptr) {
    SymbolBuffer symbols;
    unpack(bytes, symbols.data());
    code_.decode(symbols.data(), y_hat);
    for (int t = 0; t < dim(); ++t) y_hat[t] *= scale;
    return;
  }
  std::array<std::uint16_t, max_trellis_dim> table_index;
  const trellis::BitString planes{bytes + header_bytes,
                                  static_cast<std::size_t>(bytes_per_vector()) - header_bytes};
  decoder_({planes, dim(), reinterpret_cast<const std::int8_t*>(byte_levels_.data()),
            reinterpret_cast<const std::int16_t*>(pair_levels_.data()), scale / levels_per_unit},
           y_hat, table_index.data());
  const int top_shift = code_.memory() + bits_;
  const unsigned extra_bits = bytes[1];
  for (std::size_t j = 0; j < extra_.size(); ++j) {
    const unsigned top = (extra_bits >> j) & 1U;
    y_hat[extra_[j]] = extra_values_[table_index[extra_[j]] | top << top_shift] * scale;
  }
}

void TrellisValueFormat::pack(const std::uint8_t* symbols, std::uint8_t* bytes) const {
  const int d = dim();
  unsigned extra = 0;
  for (std::size_t j = 0; j < extra_.size(); ++j) extra |= ((symbols[extra_[j]] >> bits_) & 1U) << j;
  bytes[1] = static_cast<std::uint8_t>(extra);
  SymbolBuffer buffer;
  std::fill_n(buffer.begin() + d, 8, std::uint8_t{0});
  trellis::BitWriter writer(bytes + header_bytes);
  std::reverse_copy(symbols, symbols + d, buffer.begin());
  writer.append_plane(buffer.data(), d, 0);
  std::copy_n(symbols, d, buffer.begin());
  for (int plane = 1; plane < bits_; ++plane) writer.append_plane(buffer.data(), d, plane);
  writer.finish();
}

void TrellisValueFormat::unpack(const std::uint8_t* bytes, std::uint8_t* symbols) const {
  const int d = dim();
  const trellis::BitString planes{bytes + header_bytes,
                                  static_cast<std::size_t>(bytes_per_vector()) - header_bytes};
  SymbolBuffer buffer;
  std::fill_n(buffer.begin(), d + 8, std::uint8_t{0});
  trellis::read_plane(planes, 0, buffer.data(), d, 0);
  std::reverse(buffer.begin(), buffer.begin() + d);
  for (int plane = 1; plane < bits_; ++plane) {
    trellis::read_plane(planes, static_cast<std::size_t>(plane) * static_cast<std::size_t>(d), buffer.data(),
                        d, plane);
  }
  std::copy_n(buffer.begin(), d, symbols);
  for (std::size_t j = 0; j < extra_.size(); ++j) {
    symbols[extra_[j]] |= static_cast<std::uint8_t>(((bytes[1] >> j) & 1U) << bits_);
  }
}

}  // namespace rotorquant
