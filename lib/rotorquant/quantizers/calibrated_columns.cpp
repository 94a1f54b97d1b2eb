#include "rotorquant/quantizers/calibrated_columns.hpp"

#include <algorithm>
#include <cmath>

#include "rotorquant/core/elements.hpp"
#include "rotorquant/core/scratch.hpp"

namespace rotorquant {
namespace {

std::int32_t field(const trellis::BitString& string, std::int64_t bit, int bits) {
  return static_cast<std::int32_t>(trellis::load_bits(string, static_cast<std::size_t>(bit)) &
                                   ((1U << bits) - 1U));
}

}  // namespace

OffsetTables::OffsetTables(std::span<const float> offsets, std::int64_t dim) {
  const std::int64_t count = std::ssize(offsets) / dim;
  stride_ = count <= 16 ? 16 : std::max<std::int64_t>(32, count);
  row_stride_ = (dim + 7) / 8 * 8;
  values_.resize(static_cast<std::size_t>(dim * stride_));
  rows_.resize(static_cast<std::size_t>(count * row_stride_));
  const auto n = static_cast<std::size_t>(dim);
  for (std::size_t k = 0; k < offsets.size(); ++k) {
    values_[k % n * static_cast<std::size_t>(stride_) + k / n] = offsets[k];
    rows_[k / n * static_cast<std::size_t>(row_stride_) + k % n] = offsets[k];
  }
}

BlockFields read_fields(const CalibratedLayout& layout, const std::uint8_t* codes, std::int64_t count) {
  BlockFields fields;
  const std::int64_t centroid_bit = layout.planes->bits();
  for (std::int64_t v = 0; v < count; ++v) {
    const trellis::BitString string{codes + v * layout.bytes, static_cast<std::size_t>(layout.bytes)};
    const auto lane = static_cast<std::size_t>(v);
    fields.centroids[lane] = field(string, centroid_bit, layout.centroid_bits);
    fields.scale_codes[lane] = field(string, centroid_bit + layout.centroid_bits, layout.scale_bits);
  }
  return fields;
}

BlockFields read_levels(Isa isa, const CalibratedLayout& layout, const LevelTables& tables,
                        const std::uint8_t* codes, std::int64_t count, float* columns) {
#if defined(__x86_64__)
  if (isa != Isa::serial) {
    BlockFields fields;
    const auto read = isa == Isa::avx512 ? read_levels_avx512 : read_levels_avx2;
    read(layout, tables, codes, count, columns, fields);
    return fields;
  }
#endif
  static thread_local std::vector<std::uint8_t> symbols;
  symbols.resize(static_cast<std::size_t>(layout.planes->symbol_bytes()));
  for (std::int64_t v = 0; v < count; ++v) {
    layout.planes->read({codes + v * layout.bytes, static_cast<std::size_t>(layout.bytes)}, 0,
                        symbols.data());
    for (std::int64_t k = 0; k < tables.dim(); ++k)
      columns[tables.slot(k) * cascade_lanes + v] = tables.of(k)[symbols[static_cast<std::size_t>(k)]];
  }
  run_steps(isa, tables.first_steps(), columns);
  return read_fields(layout, codes, count);
}

std::uint32_t load_keys(Isa isa, const ConstHostTensor& x, const float* shift, const CascadeProgram& program,
                        const KeyGrid* grid, float* columns, std::int32_t* words) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return load_keys_avx512(x, shift, program, grid, columns, words);
  if (isa == Isa::avx2) return load_keys_avx2(x, shift, program, grid, columns, words);
#endif
  (void)isa;
  (void)grid;
  (void)words;
  static thread_local ScratchFloats scratch;
  float* row = scratch.reserve(x.cols);
  for (std::int64_t v = 0; v < cascade_lanes; ++v) {
    if (v < x.rows) {
      load_elements(x.type, x.row(v), x.cols, row);
    } else {
      std::fill_n(row, x.cols, 0.0F);
    }
    for (std::size_t i = 0; i < program.slots.size(); ++i)
      columns[program.slots[i] * cascade_lanes + v] = program.scales[i] * (row[i] - shift[i]);
  }
  return static_cast<std::uint32_t>((std::uint64_t{1} << x.rows) - 1);
}

void subtract_offsets(Isa isa, const OffsetTables& offsets, const std::int32_t* centroids, std::int64_t dim,
                      const float* columns, float* out) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return subtract_offsets_avx512(offsets, centroids, dim, columns, out);
  if (isa == Isa::avx2) return subtract_offsets_avx2(offsets, centroids, dim, columns, out);
#endif
  (void)isa;
  for (std::int64_t k = 0; k < dim; ++k) {
    for (std::int64_t v = 0; v < cascade_lanes; ++v)
      out[k * cascade_lanes + v] = columns[k * cascade_lanes + v] - offsets.of(k)[centroids[v]];
  }
}

void columns_to_rows(const float* columns, HostView<float> rows) {
  for (std::int64_t v = 0; v < rows.rows; ++v) {
    for (std::int64_t i = 0; i < rows.cols; ++i) rows.row(v)[i] = columns[i * cascade_lanes + v];
  }
}

void write_codes(Isa isa, const CalibratedLayout& layout, std::span<const NormalLevels> levels,
                 const OffsetTables& centroids, const float* columns, const float* scales,
                 const BlockFields& fields, std::int64_t count, std::uint8_t* codes) {
#if defined(__x86_64__)
  if (isa == Isa::avx512)
    return write_codes_avx512(layout, levels, centroids, columns, scales, fields, count, codes);
  if (isa == Isa::avx2)
    return write_codes_avx2(layout, levels, centroids, columns, scales, fields, count, codes);
#endif
  (void)isa;
  const MixedPlanes& planes = *layout.planes;
  static thread_local std::vector<std::uint8_t> symbols;
  symbols.resize(static_cast<std::size_t>(planes.symbol_bytes()));
  for (std::int64_t v = 0; v < count; ++v) {
    const auto lane = static_cast<std::size_t>(v);
    const float inverse = 1.0F / scales[v];
    std::int64_t k = 0;
    for (int width = max_width; width > 0; --width) {
      for (; k < planes.count_at_least(width); ++k) {
        const float y = columns[k * cascade_lanes + v] - centroids.of(k)[fields.centroids[lane]];
        symbols[static_cast<std::size_t>(k)] = levels[static_cast<std::size_t>(width)].index_of(y * inverse);
      }
    }
    trellis::BitWriter writer(codes + v * layout.bytes);
    planes.write(symbols.data(), writer);
    writer.append(static_cast<std::uint64_t>(fields.centroids[lane]), layout.centroid_bits);
    writer.append(static_cast<std::uint64_t>(fields.scale_codes[lane]), layout.scale_bits);
    writer.finish();
  }
}

void write_rows(Isa isa, const float* columns, const float* scales, const std::int32_t* centroids,
                const OffsetTables& offsets, bool stream, const HostTensor& x) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return write_rows_avx512(columns, scales, centroids, offsets, stream, x);
  if (isa == Isa::avx2) return write_rows_avx2(columns, scales, centroids, offsets, stream, x);
#endif
  (void)isa;
  (void)stream;
  static thread_local ScratchFloats scratch;
  float* row = scratch.reserve(x.cols);
  for (std::int64_t v = 0; v < x.rows; ++v) {
    for (std::int64_t i = 0; i < x.cols; ++i)
      row[i] = std::fma(scales[v], columns[i * cascade_lanes + v], offsets.of(i)[centroids[v]]);
    store_elements(x.type, row, x.cols, x.row(v));
  }
}

}  // namespace rotorquant
