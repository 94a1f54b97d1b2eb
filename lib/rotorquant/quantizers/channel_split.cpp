#include "rotorquant/quantizers/channel_split.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "rotorquant/quantizers/rotated_codec.hpp"

namespace rotorquant {

CodeLayout split_layout(const CodeLayout& first, const CodeLayout& second) {
  CodeLayout layout = first;
  layout.dim += second.dim;
  layout.arrays.insert(layout.arrays.end(), second.arrays.begin(), second.arrays.end());
  return layout;
}

ChannelSplit::ChannelSplit(std::shared_ptr<const Quantizer> first, std::shared_ptr<const Quantizer> second,
                           std::span<const std::int64_t> channels)
    : first_(std::move(first)),
      second_(std::move(second)),
      order_(channels.begin(), channels.end()),
      layout_(split_layout(first_->layout(), second_->layout())) {
  for (std::int64_t c = 0; c < dim(); ++c) {
    if (!std::binary_search(channels.begin(), channels.end(), c)) order_.push_back(c);
  }
}

template <typename Byte>
CodesView<Byte, Space::cpu> ChannelSplit::second_part(const CodesView<Byte, Space::cpu>& codes) const {
  CodesView<Byte, Space::cpu> part;
  const std::size_t before = first_->layout().arrays.size();
  for (std::size_t a = before; a < layout_.arrays.size(); ++a) part.arrays[a - before] = codes.arrays[a];
  part.count = codes.count;
  return part;
}

void ChannelSplit::encode(const Context& context, HostView<const float> x, Codes<Space::cpu> codes) const {
  // Parts would name a coordinate by its place among their own.
  for (std::int64_t r = 0; r < x.rows; ++r) {
    for (std::int64_t c = 0; c < x.cols; ++c) {
      if (!std::isfinite(x.row(r)[c])) refuse_value(r, x.row(r), x.cols);
    }
  }
  std::vector<float> gathered(static_cast<std::size_t>(x.size()));
  const HostView<float> first{gathered.data(), x.rows, first_->dim()};
  const HostView<float> second{gathered.data() + first.size(), x.rows, second_->dim()};
  for (std::int64_t r = 0; r < x.rows; ++r) {
    for (std::int64_t i = 0; i < dim(); ++i) {
      float* out = i < first.cols ? first.row(r) + i : second.row(r) + (i - first.cols);
      *out = x.row(r)[order_[static_cast<std::size_t>(i)]];
    }
  }
  first_->encode(context, first, codes);
  second_->encode(context, second, second_part(codes));
}

void ChannelSplit::decode(const Context& context, ConstCodes<Space::cpu> codes, HostView<float> x) const {
  std::vector<float> gathered(static_cast<std::size_t>(x.size()));
  const HostView<float> first{gathered.data(), x.rows, first_->dim()};
  const HostView<float> second{gathered.data() + first.size(), x.rows, second_->dim()};
  first_->decode(context, codes, first);
  second_->decode(context, second_part(codes), second);
  for (std::int64_t r = 0; r < x.rows; ++r) {
    for (std::int64_t i = 0; i < dim(); ++i) {
      x.row(r)[order_[static_cast<std::size_t>(i)]] =
          i < first.cols ? first.row(r)[i] : second.row(r)[i - first.cols];
    }
  }
}

}  // namespace rotorquant
