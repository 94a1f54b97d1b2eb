#include "rotorquant/cache/key_method.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "rotorquant/core/error.hpp"
#include "rotorquant/core/half.hpp"

namespace rotorquant {
namespace {

// Mean of tokens [first, last) of keys in fp16; zeros when there is none.
std::vector<float> stored_mean(HostView<const float> keys, std::int64_t first, std::int64_t last) {
  std::vector<double> sums(static_cast<std::size_t>(keys.cols), 0.0);
  for (std::int64_t t = first; t < last; ++t) {
    for (std::int64_t i = 0; i < keys.cols; ++i) {
      sums[static_cast<std::size_t>(i)] += static_cast<double>(keys.row(t)[i]);
    }
  }
  std::vector<float> mean(sums.size(), 0.0F);
  for (std::size_t i = 0; i < sums.size() && last > first; ++i) {
    const double value = sums[i] / static_cast<double>(last - first);
    if (!(std::abs(value) < static_cast<double>(half_max))) {
      throw Error("centering: the mean of the keys is " + std::to_string(value) + " in coordinate " +
                  std::to_string(i) + "; valid: finite, below " + std::to_string(static_cast<int>(half_max)));
    }
    mean[i] = half_to_float(float_to_half(static_cast<float>(value)));
  }
  return mean;
}

}  // namespace

SequenceQuantizer CenteredKeys::open(HostView<const float> keys, std::int64_t sinks) const {
  const HostView<const float> coded = keys.row_range(sinks, keys.rows - sinks);
  if (centering_ == Centering::none) return fit_->fit(coded);
  const std::vector<float> centre =
      centering_ == Centering::online
          ? stored_mean(keys, adaptation_first_token, std::min(keys.rows, adaptation_last_token))
          : stored_mean(keys, sinks, keys.rows);
  std::vector<float> centred(coded.data, coded.data + coded.size());
  for (std::int64_t i = 0; i < coded.size(); ++i)
    centred[static_cast<std::size_t>(i)] -= centre[static_cast<std::size_t>(i % dim())];
  SequenceQuantizer result = fit_->fit({centred.data(), coded.rows, coded.cols});
  result.centre = centre;
  result.side.push_back({"centre", 16 * dim()});
  return result;
}

CalibratedKeys::CalibratedKeys(std::shared_ptr<const CalibratedParameters> parameters,
                               AdaptationOptions adaptation, CalibratedSearch search, CalibratedCode code)
    : parameters_(std::move(parameters)),
      adaptation_(adaptation),
      search_(search),
      code_(code),
      layout_(CalibratedCodec(parameters_, {}, search_, code_).layout()) {}

SequenceQuantizer CalibratedKeys::open(HostView<const float> keys, std::int64_t /*sinks*/) const {
  const std::int64_t first = std::min(keys.rows, adaptation_first_token);
  SequenceAdaptation measured =
      observe_sequence(*parameters_, keys.row_range(first, keys.rows - first), adaptation_);
  SequenceQuantizer result;
  if (adaptation_.shift)
    result.side.push_back({"shift", static_cast<std::int64_t>(16 * measured.shift.size())});
  if (adaptation_.scales)
    result.side.push_back({"scales", static_cast<std::int64_t>(8 * measured.scale_steps.size())});
  result.quantizer = std::make_shared<CalibratedCodec>(parameters_, std::move(measured), search_, code_);
  return result;
}

}  // namespace rotorquant
