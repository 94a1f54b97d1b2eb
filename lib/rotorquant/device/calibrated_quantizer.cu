#include <algorithm>

#include "rotorquant/device/calibrated_quantizer.cuh"
#include "rotorquant/device/shapes.cuh"

namespace rotorquant::device {
namespace {

template <typename T>
Buffer<T> copy_of(std::span<const T> values) {
  return Buffer<T>(std::vector<T>(values.begin(), values.end()));
}

std::vector<ColumnStep> steps_of(const CascadeProgram& program) {
  std::vector<ColumnStep> steps;
  for (const CascadeStep& step : program.steps) {
    ColumnStep made{};
    std::copy(step.slots.begin(), step.slots.end(), made.slots);
    std::copy(step.factors.begin(), step.factors.end(), made.factors);
    steps.push_back(made);
  }
  return steps;
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

CalibratedQuantizer::Program::Program(const CascadeProgram& program)
    : steps(steps_of(program)), slots(program.slots), scales(program.scales) {}

ColumnProgram CalibratedQuantizer::Program::view() const {
  return {steps.data(), static_cast<int>(steps.size()), slots.data(), scales.data()};
}

CalibratedQuantizer::CalibratedQuantizer(std::shared_ptr<const Quantizer> owner, const CalibratedCodec& codec,
                                         int gpu)
    : owner_(std::move(owner)),
      codec_(codec),
      gpu_(gpu),
      forward_(codec.forward_steps()),
      backward_(codec.backward_steps()),
      levels_(table_by_width(codec, levels_of)),
      boundaries_(table_by_width(codec, boundaries_of)),
      shift_(copy_of(codec.shift())),
      centroids_(codec.parameters().centroids),
      transformed_(copy_of(codec.transformed_centroids())),
      offsets_(offsets_of(codec)),
      scales_(copy_of(codec.scales())),
      diagonal_(diagonal_of(codec)),
      metric_(copy_of(codec.metric())),
      energies_(copy_of(codec.energies())) {}

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
  view.least_energy = codec_.least_energy();
  view.forward = forward_.view();
  view.backward = backward_.view();
  view.levels = levels_.data();
  view.boundaries = boundaries_.data();
  view.shift = shift_.data();
  view.centroids = centroids_.data();
  view.transformed = transformed_.data();
  view.offsets = offsets_.data();
  view.scales = scales_.data();
  view.energies = energies_.data();
  view.diagonal = diagonal_.data();
  view.metric = metric_.data();
  return view;
}

void CalibratedQuantizer::encode(DeviceStream stream, const ConstDeviceTensor& x,
                                 Codes<Space::cuda> codes) const {
  check_shape("encode: rows", x.rows, x.cols, codes.count, dim());
  const CurrentDevice current(gpu_);
  encode_calibrated_rows(stream, view(), x, codes.arrays[0], refusals_.data());
}

void CalibratedQuantizer::decode(DeviceStream stream, ConstCodes<Space::cuda> codes,
                                 const DeviceTensor& x) const {
  check_shape("decode: rows", x.rows, x.cols, codes.count, dim());
  const CurrentDevice current(gpu_);
  decode_calibrated_rows(stream, view(), codes.arrays[0], x, refusals_.data());
}

void CalibratedQuantizer::score(DeviceStream stream, DeviceWorkspace&, DeviceView<const float> queries,
                                ConstCodes<Space::cuda> codes, DeviceView<float> scores) const {
  check_shape("score: queries", queries.rows, queries.cols, queries.rows, dim());
  check_shape("score: scores", scores.rows, scores.cols, queries.rows, codes.count);
  const CurrentDevice current(gpu_);
  score_calibrated_rows(stream, view(), queries.data, queries.rows, codes.arrays[0], codes.count, scores.data,
                        refusals_.data());
}

}  // namespace rotorquant::device
