#include "rotorquant/device/trellis_tables.cuh"

namespace rotorquant::device {
TrellisWidthView TrellisLevelArrays::append(const TrellisLevels& levels) {
  const std::size_t states = std::size_t{1} << levels.memory();
  const TrellisWidthView view{levels.cells(), static_cast<int>(rows.size()), static_cast<int>(choices.size()),
                              static_cast<int>(values.size())};
  values.insert(values.end(), levels.values().begin(), levels.values().end());
  const int cells = static_cast<int>(levels.cells().last) + 1;
  choices.insert(choices.end(), levels.choices(0),
                 levels.choices(0) + static_cast<std::size_t>(cells) * 4 * states);
  for (int cell = 0; cell < cells; ++cell) {
    const float* const midpoints = levels.row(cell);
    const float* const halves = midpoints + 2 * states;
    for (std::size_t q = 0; q < states; ++q) {
      rows.push_back({midpoints[q], halves[q], midpoints[q + states], halves[q + states]});
    }
  }
  return view;
}

TrellisTables::TrellisTables(const TrellisValueFormat& format) {
  const TrellisCodebook& codebook = format.code().codebook();
  const int memory = codebook.memory();
  TrellisLevelArrays arrays;
  std::vector<std::uint8_t> extra;
  std::uint8_t extra_bits = 0;
  for (const std::uint8_t width : format.widths())
    extra.push_back(width > format.bits() ? extra_bits++ : no_extra_bit);
  // Where no coordinate is wider, the second table is the first.
  const int widest = extra_bits > 0 ? format.bits() + 1 : format.bits();
  for (int i = 0; i < 2; ++i) {
    const int width = std::min(format.bits() + i, widest);
    if (i > 0 && width == format.bits()) {
      view_.width[1] = view_.width[0];
      break;
    }
    view_.width[i] = arrays.append(codebook.levels(width));
  }
  extra_ = Buffer<std::uint8_t>(extra);
  choices_ = Buffer<std::uint8_t>(arrays.choices);
  scales_ = Buffer<float>(std::vector<float>(format.scales().begin(), format.scales().end()));
  values_ = Buffer<float>(arrays.values);
  rows_ = Buffer<float4>(arrays.rows);
  view_.dim = format.dim();
  view_.bits = format.bits();
  view_.memory = memory;
  view_.bytes_per_vector = static_cast<int>(format.bytes_per_vector());
  view_.extra = extra_.data();
  view_.scales = scales_.data();
  view_.values = values_.data();
  view_.value_count = static_cast<int>(arrays.values.size());
  view_.rows = rows_.data();
  view_.row_count = static_cast<int>(arrays.rows.size());
  view_.choices = choices_.data();
}

}  // namespace rotorquant::device
