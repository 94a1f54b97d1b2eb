#include <algorithm>

#include "rotorquant/device/calibrated_quantizer.cuh"
#include "rotorquant/device/shapes.cuh"

namespace rotorquant::device {
namespace {

template <typename T>
Buffer<T> copy_of(std::span<const T> values) {
  return Buffer<T>(std::vector<T>(values.begin(), values.end()));
}

// The steps in groups, in their order.
std::vector<ColumnStep> steps_of(const CascadeProgram& program) {
  const auto dim = static_cast<int>(program.slots.size());
  std::vector<ColumnStep> steps;
  std::size_t begin = 0;  // of the group
  const auto fill = [&] {
    while (steps.size() % steps_together != 0) steps.push_back({{dim, dim + 1, dim + 2, 0}, {}});
    begin = steps.size();
  };
  const auto touches = [](const ColumnStep& a, const CascadeStep& b) {
    for (const std::int32_t slot : b.slots) {
      if (slot == a.slots[0] || slot == a.slots[1] || slot == a.slots[2]) return true;
    }
    return false;
  };
  for (const CascadeStep& step : program.steps) {
    if (std::any_of(steps.begin() + static_cast<std::ptrdiff_t>(begin), steps.end(),
                    [&](const ColumnStep& other) { return touches(other, step); }))
      fill();
    ColumnStep made{};
    std::copy(step.slots.begin(), step.slots.end(), made.slots);
    std::copy(step.factors.begin(), step.factors.end(), made.factors);
    steps.push_back(made);
    if (steps.size() % steps_together == 0) begin = steps.size();
  }
  fill();
  return steps;
}

ColumnProgram program_of(const Buffer<ColumnStep>& steps) {
  return {steps.data(), static_cast<int>(steps.size()) / steps_together};
}

std::vector<LevelPlace> places_of(const CalibratedCodec& codec) {
  std::vector<LevelPlace> places;
  for (std::size_t i = 0; i < codec.backward_steps().slots.size(); ++i) {
    const auto coordinate = static_cast<std::size_t>(codec.planes().order()[i]);
    places.push_back({codec.backward_steps().slots[i], codec.backward_steps().scales[i],
                      1 << codec.widths()[coordinate], 0});
  }
  return places;
}

int stride_of(const CalibratedCodec& codec) {
  const auto count = static_cast<int>(codec.parameters().num_centroids());
  return (count + centroids_together - 1) / centroids_together * centroids_together;
}

// rows [C, dim] -> [dim, stride], zeros behind the last.
std::vector<float> columns_of(const CalibratedCodec& codec, std::span<const float> rows) {
  const auto dim = static_cast<std::size_t>(codec.dim()), stride = static_cast<std::size_t>(stride_of(codec));
  std::vector<float> columns(dim * stride);
  for (std::size_t i = 0; i < rows.size(); ++i) columns[i % dim * stride + i / dim] = rows[i];
  return columns;
}

std::size_t stride_of_metric(const CalibratedCodec& codec) {
  constexpr std::size_t together = 16;
  return (static_cast<std::size_t>(codec.dim()) + together - 1) / together * together;
}

// rows [n, dim] with zeros up to the stride.
std::vector<float> padded_rows(std::span<const float> rows, std::size_t dim, std::size_t stride) {
  std::vector<float> padded(rows.size() / dim * stride);
  for (std::size_t i = 0; i < rows.size(); ++i) padded[i / dim * stride + i % dim] = rows[i];
  return padded;
}

// Rows of `table` that begin at 2^width with the numbers of each width.
template <typename Numbers>
std::vector<float> table_by_width(const CalibratedCodec& codec, const Numbers& numbers_of) {
  std::vector<float> table(level_table);
  for (int width = 0; width <= max_width; ++width) {
    const std::vector<float> numbers =
        numbers_of(codec.levels()[static_cast<std::size_t>(width)], 1 << width);
    std::copy(numbers.begin(), numbers.end(), table.begin() + (1 << width));
  }
  return table;
}

std::vector<float> levels_of(const NormalLevels& levels, int count) {
  return {levels.levels(), levels.levels() + count};
}

// Ascending, as NormalLevels makes them.
std::vector<float> boundaries_of(const NormalLevels& levels, int count) {
  std::vector<float> boundaries;
  for (int i = 0; i + 1 < count; ++i)
    boundaries.push_back(0.5F * (levels.levels()[i] + levels.levels()[i + 1]));
  return boundaries;
}

std::vector<float> offsets_of(const CalibratedCodec& codec) {
  std::vector<float> offsets = codec.parameters().centroids;
  const std::span<const float> shift = codec.shift();
  for (std::size_t i = 0; i < offsets.size(); ++i) offsets[i] += shift[i % shift.size()];
  return offsets;
}

std::vector<float> diagonal_of(const CalibratedCodec& codec) {
  const auto dim = static_cast<std::size_t>(codec.dim());
  std::vector<float> diagonal(dim);
  for (std::size_t i = 0; i < dim; ++i) diagonal[i] = codec.metric()[i * (dim + 1)];
  return diagonal;
}

}  // namespace

CalibratedQuantizer::CalibratedQuantizer(std::shared_ptr<const Quantizer> owner, const CalibratedCodec& codec,
                                         int gpu)
    : owner_(std::move(owner)),
      codec_(codec),
      gpu_(gpu),
      forward_(steps_of(codec.forward_steps())),
      backward_(steps_of(codec.backward_steps())),
      input_slots_(codec.forward_steps().slots),
      input_scales_(codec.forward_steps().scales),
      places_(places_of(codec)),
      levels_(table_by_width(codec, levels_of)),
      boundaries_(table_by_width(codec, boundaries_of)),
      shift_(copy_of(codec.shift())),
      centroids_(columns_of(codec, codec.parameters().centroids)),
      transformed_(columns_of(codec, codec.transformed_centroids())),
      offsets_(offsets_of(codec)),
      scales_(copy_of(codec.scale_codes().scales())),
      diagonal_(diagonal_of(codec)),
      metric_(padded_rows(codec.metric(), static_cast<std::size_t>(codec.dim()), stride_of_metric(codec))),
      energies_(copy_of(codec.scale_codes().energies())) {
  if (codec.trellis() == nullptr) return;
  trellis_.emplace(codec);
  trellis_encoder_.emplace(view(), trellis_->view());
}

CalibratedTrellisView CalibratedQuantizer::trellis_view() const {
  return trellis_ ? trellis_->view() : CalibratedTrellisView{};
}

CalibratedView CalibratedQuantizer::view() const {
  const CalibratedParameters& parameters = codec_.parameters();
  const CalibratedSearch& search = codec_.search();
  CalibratedView view{};
  view.dim = static_cast<int>(codec_.dim());
  view.code_bytes = static_cast<int>(layout().bytes_per_vector());
  view.ends[0] = view.dim;
  for (int width = 1; width <= max_width; ++width)
    view.ends[width] = static_cast<int>(codec_.planes().count_at_least(width));
  view.centroid_count = static_cast<int>(parameters.num_centroids());
  view.centroid_bits = parameters.centroid_bits;
  view.scale_bits = parameters.scale.bits;
  view.scale_radius = search.scale_radius;
  view.centroid_choices = std::min(search.centroid_choices, view.centroid_count);
  view.descent_sweeps = search.descent_sweeps;
  view.least_energy = codec_.scale_codes().least_energy();
  view.forward = program_of(forward_);
  view.backward = program_of(backward_);
  view.input_slots = input_slots_.data();
  view.input_scales = input_scales_.data();
  view.places = places_.data();
  view.levels = levels_.data();
  view.boundaries = boundaries_.data();
  view.shift = shift_.data();
  view.centroids = centroids_.data();
  view.transformed = transformed_.data();
  view.centroid_stride = stride_of(codec_);
  view.offsets = offsets_.data();
  view.scales = scales_.data();
  view.energies = energies_.data();
  view.diagonal = diagonal_.data();
  view.metric = metric_.data();
  view.metric_stride = static_cast<int>(stride_of_metric(codec_));
  return view;
}

void CalibratedQuantizer::encode(DeviceStream stream, const ConstDeviceTensor& x,
                                 Codes<Space::cuda> codes) const {
  check_shape("encode: rows", x.rows, x.cols, codes.count, dim());
  const CurrentDevice current(gpu_);
  if (trellis_encoder_) {
    trellis_encoder_->encode(stream, view(), trellis_view(), x, codes.arrays[0], refusals_.data());
  } else {
    encode_calibrated_rows(stream, view(), x, codes.arrays[0], refusals_.data());
  }
}

void CalibratedQuantizer::decode(DeviceStream stream, ConstCodes<Space::cuda> codes,
                                 const DeviceTensor& x) const {
  check_shape("decode: rows", x.rows, x.cols, codes.count, dim());
  const CurrentDevice current(gpu_);
  decode_calibrated_rows(stream, view(), trellis_view(), codes.arrays[0], x, refusals_.data());
}

void CalibratedQuantizer::score(DeviceStream stream, DeviceWorkspace&, DeviceView<const float> queries,
                                ConstCodes<Space::cuda> codes, DeviceView<float> scores) const {
  check_shape("score: queries", queries.rows, queries.cols, queries.rows, dim());
  check_shape("score: scores", scores.rows, scores.cols, queries.rows, codes.count);
  const CurrentDevice current(gpu_);
  score_calibrated_rows(stream, view(), trellis_view(), queries.data, queries.rows, codes.arrays[0],
                        codes.count, scores.data, refusals_.data());
}

}  // namespace rotorquant::device
