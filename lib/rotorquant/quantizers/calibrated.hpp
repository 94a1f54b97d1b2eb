#pragma once
// `rotorquant-calibrated`: the codec of keys before RoPE, for one KV head and one sequence
// (calibrated_parameters.hpp has the formula and the meaning of every parameter).
//
// A vector's code is one string of bits * dim + 16 bits, padded to a byte: the mixed-width planes of the
// indices (mixed_planes.hpp), the centroid's index, the scale code; least significant bits first.
//
// The encoder minimises the error that queries see, (x - x^)^T M (x - x^) with M the calibrated query metric:
// it searches centroids and scale codes jointly by the diagonal of M after F, then lowers the full form by
// coordinate descent over the indices, which M's off-diagonal part couples. With a trellis the best pairs of
// centroid and scale code found for scalar levels of the same widths are searched by the diagonal, and the
// best of those by the full form (calibrated_trellis.hpp). None of this costs a stored bit.
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "rotorquant/codes/mixed_planes.hpp"
#include "rotorquant/quantizers/calibrated_columns.hpp"
#include "rotorquant/quantizers/calibrated_parameters.hpp"
#include "rotorquant/quantizers/calibrated_trellis.hpp"
#include "rotorquant/quantizers/cascade_program.hpp"
#include "rotorquant/quantizers/centroid_grid.hpp"
#include "rotorquant/quantizers/centroid_search.hpp"
#include "rotorquant/quantizers/level_search.hpp"
#include "rotorquant/quantizers/quantizer.hpp"
#include "rotorquant/quantizers/scale_codes.hpp"

namespace rotorquant {

enum class CalibratedCodecKind { lloyd_max, trellis };

// What the symbols of coordinates stand for.
struct CalibratedCode {
  CalibratedCodecKind kind = CalibratedCodecKind::lloyd_max;
  int memory = 5;  // of the trellis: 3 or 5
};

// The distortions that bit allocation goes by.
WidthDistortions code_distortions(const CalibratedCode& code);

// How hard the encoder looks; the format is the same.
struct CalibratedSearch {
  int scale_radius = 2;  // scale codes tried on each side of the nearest to the residual's norm
  // Centroids that get the full search, best first at their nearest scale; 0: the nearest only.
  int centroid_choices = 8;
  int descent_sweeps = 2;       // of the coordinate descent at most; it ends when nothing changes
  int trellis_candidates = 20;  // pairs of centroid and scale code that a trellis tries, 1 or more
  int trellis_refinements = 8;  // of them, best first, whose full form is lowered (CalibratedTrellis::refine)
};

// The nearest centroid, the scale code nearest to the residual's norm, indices by the metric's diagonal.
inline constexpr CalibratedSearch nearest_search = {0, 0, 0, 1, 0};

class CalibratedCodec final : public Quantizer {
 public:
  // Validates the parameters. `adaptation` as made by observe_sequence.
  explicit CalibratedCodec(std::shared_ptr<const CalibratedParameters> parameters,
                           SequenceAdaptation adaptation = {}, CalibratedSearch search = {},
                           CalibratedCode code = {}, Isa isa = active_isa());
  CalibratedCodec(const CalibratedCodec&) = delete;  // members refer to others
  CalibratedCodec& operator=(const CalibratedCodec&) = delete;

  const CodeLayout& layout() const override { return layout_; }
  std::int64_t stored_floats() const override { return parameters_->decoder_floats(); }
  // x [n, dim]: keys before RoPE.
  void encode(const Context& context, HostView<const float> x, Codes<Space::cpu> codes) const override;
  void encode_tensor(const Context& context, const ConstHostTensor& x,
                     Codes<Space::cpu> codes) const override;
  void decode(const Context& context, ConstCodes<Space::cpu> codes, HostView<float> x) const override;
  void decode_tensor(const Context& context, ConstCodes<Space::cpu> codes,
                     const HostTensor& x) const override;

  // On a GPU up to max_device_dim coordinates: encode, decode and scores of keys before RoPE.
  std::optional<std::string> unsupported_on(Space space) const override;

  const CalibratedParameters& parameters() const { return *parameters_; }
  const SequenceAdaptation& adaptation() const { return adaptation_; }
  const CalibratedSearch& search() const { return search_; }
  const std::vector<std::uint8_t>& widths() const { return widths_; }  // [dim]
  const MixedPlanes& planes() const { return planes_; }
  const CalibratedTrellis* trellis() const { return trellis_ ? &*trellis_ : nullptr; }
  // What decoding adds and multiplies by, as a matrix: x^ = c + h + n (y^ in storage order) backward.
  std::span<const float> shift() const { return shift_; }        // [dim]
  std::span<const float> backward() const { return backward_; }  // [dim, dim]
  // What encoding and decoding go by step by step.
  const CascadeProgram& forward_steps() const { return forward_; }     // x - h -> F (x - h) / sigma
  const CascadeProgram& backward_steps() const { return inverse_; }    // y^ -> F^-1 (sigma y^)
  std::span<const NormalLevels> levels() const { return codebooks_; }  // [9], by width
  std::span<const float> transformed_centroids() const {
    return centroids_forward_;
  }  // [C, dim]: F c / sigma
  const ScaleCodes& scale_codes() const { return scale_codes_; }
  // [dim, dim], after F.
  std::span<const float> metric() const { return trellis_ ? trellis_->metric() : metric_; }

 private:
  struct Workspace;
  // Keys on a grid, but for those of the bits `outside`; without one, all.
  struct GridKeys {
    const CentroidGrid* grid = nullptr;
    const std::int32_t* words = nullptr;
    std::uint32_t outside = 0;
  };
  // A centroid and a scale code, and what their best symbols cost.
  struct Candidate {
    float cost = std::numeric_limits<float>::infinity();
    std::size_t centroid = 0;
    int scale_code = 0;
  };
  float scale_of(int code) const { return scale_codes_.scales()[static_cast<std::size_t>(code)]; }
  double residual_reach() const;
  std::int32_t scale_code_of(const float* shifted, std::int64_t centroid) const;
  const float* shifted_row(const ConstHostTensor& x, std::int64_t v) const;
  void check_keys(const ConstHostTensor& x, std::int64_t first_row, std::uint32_t keys) const;
  void check_columns(const float* columns, std::int64_t first_row, std::int64_t count) const;
  void make_grids();
  GridKeys load(const ConstHostTensor& x, float* columns) const;
  void find_nearest(const ConstHostTensor& x, const GridKeys& keys, BlockFields& fields) const;
  void encode_block(const ConstHostTensor& x, std::int64_t first_row, std::uint8_t* codes) const;
  void search_pairs(const ConstHostTensor& x, const float* columns, const BlockFields& nearest,
                    Workspace& workspace) const;
  void encode_vector(const float* transformed, const std::vector<Candidate>& candidates, std::uint8_t* code,
                     Workspace& workspace) const;
  void descend(float scale, Workspace& workspace) const;
  void set_residual(const float* transformed, std::size_t centroid, Workspace& workspace) const;
  Candidate search_trellis(const float* transformed, const std::vector<Candidate>& candidates,
                           Workspace& workspace) const;
  // codes of up to cascade_lanes vectors -> x; `first_row` is the row of x(0) in the whole, for messages.
  void decode_block(const std::uint8_t* codes, std::int64_t first_row, bool stream,
                    const HostTensor& x) const;
  // Levels in columns, after the first steps.
  BlockFields read_trellis(const std::uint8_t* codes, std::int64_t count, float* columns) const;
  const NormalLevels& levels_at(std::int64_t position) const {
    return codebooks_[widths_[static_cast<std::size_t>(planes_.order()[static_cast<std::size_t>(position)])]];
  }

  std::shared_ptr<const CalibratedParameters> parameters_;
  SequenceAdaptation adaptation_;
  CalibratedSearch search_;
  Isa isa_;
  std::vector<std::uint8_t> widths_;
  MixedPlanes planes_;
  CodeLayout layout_;
  std::vector<NormalLevels> codebooks_;  // [9], by width
  // Coordinates after F are in storage order everywhere below.
  std::vector<float> shift_;     // [dim], of the key's own coordinates
  std::vector<float> backward_;  // [dim, dim]: y^ times this is F^-1 (sigma y^)
  CalibratedLayout code_;
  ScaleCodes scale_codes_;
  CascadeProgram forward_;  // x - h -> F (x - h) / sigma
  CentroidSearch centroid_search_;
  std::vector<CentroidGrid> grids_;       // fine ones first; none where vector units do not use them
  std::vector<float> centroids_forward_;  // [C, dim]: F c / sigma
  OffsetTables centroid_tables_;          // the same
  CascadeProgram inverse_;                // y^ -> F^-1 (sigma y^)
  CascadeStages inverse_stages_;
  std::optional<LevelTables> level_tables_;
  OffsetTables offset_tables_;   // c + h
  std::vector<float> metric_;    // [dim, dim]: sigma F^-T M F^-1 sigma; empty with a trellis, which has it
  std::vector<float> diagonal_;  // [dim] of that metric
  LevelSearch level_search_;
  std::optional<CalibratedTrellis> trellis_;
};

}  // namespace rotorquant
