#pragma once
// Blocks of up to cascade_lanes calibrated keys between their codes, columns [dim, cascade_lanes] of a
// cascade (cascade_program.hpp), and rows of numbers. calibrated_columns.cpp defines the results; the files
// named after instruction sets give the same bits. Columns, words, and what a block has one of a key (scales,
// centroids) begin at multiples of 64 bytes. Internal to lib/rotorquant/quantizers.
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "rotorquant/codes/mixed_planes.hpp"
#include "rotorquant/core/element_type.hpp"
#include "rotorquant/core/isa.hpp"
#include "rotorquant/core/view.hpp"
#include "rotorquant/quantizers/cascade_program.hpp"
#include "rotorquant/quantizers/centroid_grid.hpp"
#include "rotorquant/quantizers/level_search.hpp"
#include "rotorquant/quantizers/level_tables.hpp"

namespace rotorquant {

// Where a code holds what.
struct CalibratedLayout {
  const MixedPlanes* planes = nullptr;
  std::int64_t bytes = 0;  // of a code
  int centroid_bits = 0;   // behind the planes
  int scale_bits = 0;      // behind these
};

// What a block's codes say beside the levels; lanes beyond the block's keys hold zeros.
struct alignas(64) BlockFields {
  std::array<std::int32_t, cascade_lanes> centroids{};
  std::array<std::int32_t, cascade_lanes> scale_codes{};
};

BlockFields read_fields(const CalibratedLayout& layout, const std::uint8_t* codes, std::int64_t count);

// columns(slot of k) = the levels of position k, then the first steps on them; lanes from `count` on are
// unspecified.
BlockFields read_levels(Isa isa, const CalibratedLayout& layout, const LevelTables& tables,
                        const std::uint8_t* codes, std::int64_t count, float* columns);

// What is added to each key: row j of `offsets` for centroid j.
class OffsetTables {
 public:
  OffsetTables() = default;
  // offsets [count, dim].
  OffsetTables(std::span<const float> offsets, std::int64_t dim);
  // Of a coordinate, by centroid; [stride], whole registers of 16 up to 32.
  const float* of(std::int64_t coordinate) const { return values_.data() + coordinate * stride_; }
  std::int64_t stride() const { return stride_; }
  // Of a centroid, by coordinate; zeros up to whole registers of 8.
  const float* row(std::int64_t centroid) const { return rows_.data() + centroid * row_stride_; }

 private:
  std::int64_t stride_ = 0;
  std::int64_t row_stride_ = 0;
  std::vector<float> values_;  // [dim, stride]
  std::vector<float> rows_;    // [count, row stride]
};

// out(k, v) = columns(k, v) less that of position k and centroids[v]; both [dim, cascade_lanes].
void subtract_offsets(Isa isa, const OffsetTables& offsets, const std::int32_t* centroids, std::int64_t dim,
                      const float* columns, float* out);

// x(v, i) = scales[v] columns(i, v) + offset of coordinate i and centroids[v], rounded once, then to the type
// of x. x [count, dim]; past the caches if `stream` and its rows are whole cache lines.
void write_rows(Isa isa, const float* columns, const float* scales, const std::int32_t* centroids,
                const OffsetTables& offsets, bool stream, const HostTensor& x);

// columns(slots(i)) = scales(i) (x(., i) - shift[i]), in float32. x [count, dim], count <= cascade_lanes;
// lanes from `count` on are those of a key of zeros. With a grid, which Isa::serial takes none of, also the
// keys' `words` [2, grid.words(), 16]. Bit v of the result: key v is off the grid, or there is none; it alone
// may have numbers that are not finite.
std::uint32_t load_keys(Isa isa, const ConstHostTensor& x, const float* shift, const CascadeProgram& program,
                        const KeyGrid* grid, float* columns, std::int32_t* words);

// columns [dim, cascade_lanes] -> rows [count, dim].
void columns_to_rows(const float* columns, HostView<float> rows);

// The codes of keys whose columns are F (x - h) / sigma in storage order: of these less their centroid's
// (`centroids`, F c / sigma), divided by their scale, each coordinate the number of its boundaries strictly
// below.
void write_codes(Isa isa, const CalibratedLayout& layout, std::span<const NormalLevels> levels,
                 const OffsetTables& centroids, const float* columns, const float* scales,
                 const BlockFields& fields, std::int64_t count, std::uint8_t* codes);

// The same with instruction sets.
using ReadLevels = void(const CalibratedLayout& layout, const LevelTables& tables, const std::uint8_t* codes,
                        std::int64_t count, float* columns, BlockFields& fields);
using SubtractOffsets = void(const OffsetTables& offsets, const std::int32_t* centroids, std::int64_t dim,
                             const float* columns, float* out);
using LoadKeys = std::uint32_t(const ConstHostTensor& x, const float* shift, const CascadeProgram& program,
                               const KeyGrid* grid, float* columns, std::int32_t* words);
using WriteCodes = void(const CalibratedLayout& layout, std::span<const NormalLevels> levels,
                        const OffsetTables& centroids, const float* columns, const float* scales,
                        const BlockFields& fields, std::int64_t count, std::uint8_t* codes);
using WriteRows = void(const float* columns, const float* scales, const std::int32_t* centroids,
                       const OffsetTables& offsets, bool stream, const HostTensor& x);
ReadLevels read_levels_avx2, read_levels_avx512;
SubtractOffsets subtract_offsets_avx2, subtract_offsets_avx512;
LoadKeys load_keys_avx2, load_keys_avx512;
WriteCodes write_codes_avx2, write_codes_avx512;
WriteRows write_rows_avx2, write_rows_avx512;

}  // namespace rotorquant
