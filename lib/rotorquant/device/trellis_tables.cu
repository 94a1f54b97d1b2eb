#include "rotorquant/device/trellis_tables.cuh"

namespace rotorquant::device {
namespace {

template <typename T>
void append(std::vector<T>& all, const T* begin, std::size_t count) {
  all.insert(all.end(), begin, begin + count);
}

}  // namespace

TrellisTables::TrellisTables(const TrellisValueFormat& format) {
  const TrellisCodebook& codebook = format.code().codebook();
  const int memory = codebook.memory();
  const std::size_t states = std::size_t{1} << memory;
  std::vector<std::uint8_t> extra, choices;
  std::vector<float> values;
  std::vector<float4> rows;
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
    const TrellisLevels& levels = codebook.levels(width);
    view_.width[i] = {levels.cells(), static_cast<int>(rows.size()), static_cast<int>(choices.size()),
                      static_cast<int>(values.size())};
    append(values, levels.values().data(), levels.values().size());
    const int cells = static_cast<int>(levels.cells().last) + 1;
    append(choices, levels.choices(0), static_cast<std::size_t>(cells) * 4 * states);
    for (int cell = 0; cell < cells; ++cell) {
      const float* const midpoints = levels.row(cell);
      const float* const halves = midpoints + 2 * states;
      for (std::size_t q = 0; q < states; ++q) {
        rows.push_back({midpoints[q], halves[q], midpoints[q + states], halves[q + states]});
      }
    }
  }
  extra_ = Buffer<std::uint8_t>(extra);
  choices_ = Buffer<std::uint8_t>(choices);
  scales_ = Buffer<float>(std::vector<float>(format.scales().begin(), format.scales().end()));
  values_ = Buffer<float>(values);
  rows_ = Buffer<float4>(rows);
  view_.dim = format.dim();
  view_.bits = format.bits();
  view_.memory = memory;
  view_.bytes_per_vector = static_cast<int>(format.bytes_per_vector());
  view_.extra = extra_.data();
  view_.scales = scales_.data();
  view_.values = values_.data();
  view_.value_count = static_cast<int>(values.size());
  view_.rows = rows_.data();
  view_.row_count = static_cast<int>(rows.size());
  view_.choices = choices_.data();
}

}  // namespace rotorquant::device
