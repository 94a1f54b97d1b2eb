#include "rotorquant/quantizers/packed_codes.hpp"

#include <algorithm>
#include <utility>

#include "rotorquant/codes/bit_planes.hpp"

namespace rotorquant {

PackedCodes::PackedCodes(std::shared_ptr<const Quantizer> inner, std::vector<PlaneArray> planes)
    : inner_(std::move(inner)), planes_(std::move(planes)) {
  const CodeLayout& stored = inner_->layout();
  std::int64_t bits = 0;
  for (const PlaneArray& plane : planes_) bits += plane.coordinates * plane.planes;
  layout_ = {stored.dim, {{"indices", {{FieldKind::index, bits}}}}};
  if (bits % 8 != 0) layout_.arrays[0].fields.push_back({FieldKind::padding, 8 - bits % 8});
  for (std::size_t a = 0; a < stored.arrays.size(); ++a) {
    const bool packed = std::any_of(planes_.begin(), planes_.end(),
                                    [&](const PlaneArray& plane) { return plane.array == a; });
    if (packed) continue;
    others_.push_back(a);
    layout_.arrays.push_back(stored.arrays[a]);
  }
}

template <typename Copy>
void PackedCodes::for_each_bit(const Copy& copy) const {
  std::int64_t at = 0;
  for (const PlaneArray& plane : planes_) {
    for (std::int64_t p = 0; p < plane.planes; ++p) {
      for (std::int64_t c = 0; c < plane.coordinates; ++c, ++at)
        copy(plane.array, p * plane_bytes(plane.coordinates) + c / 8, c % 8, at);
    }
  }
}

void PackedCodes::encode(const Context& context, HostView<const float> x, Codes<Space::cpu> codes) const {
  CodeBuffer buffer(inner_->layout(), x.rows);
  inner_->encode(context, x, buffer.view());
  const ConstCodes<Space::cpu> plain = std::as_const(buffer).view();
  const CodeLayout& stored = inner_->layout();
  const std::int64_t bytes = layout_.arrays[0].bytes_per_vector();
  parallel_for(context, x.rows, [&](std::int64_t r) {
    std::uint8_t* string = codes.arrays[0] + r * bytes;
    std::fill_n(string, bytes, std::uint8_t{0});
    for_each_bit([&](std::size_t array, std::int64_t byte, std::int64_t bit, std::int64_t at) {
      const std::uint8_t* from = plain.arrays[array] + r * stored.arrays[array].bytes_per_vector();
      const int value = (from[byte] >> bit) & 1;
      string[at / 8] = static_cast<std::uint8_t>(string[at / 8] | (value << (at % 8)));
    });
    for (std::size_t i = 0; i < others_.size(); ++i) {
      const std::int64_t size = stored.arrays[others_[i]].bytes_per_vector();
      std::copy_n(plain.arrays[others_[i]] + r * size, size, codes.arrays[i + 1] + r * size);
    }
  });
}

void PackedCodes::decode(const Context& context, ConstCodes<Space::cpu> codes, HostView<float> x) const {
  const CodeLayout& stored = inner_->layout();
  CodeBuffer buffer(stored, codes.count);
  const Codes<Space::cpu> plain = buffer.view();
  const std::int64_t bytes = layout_.arrays[0].bytes_per_vector();
  parallel_for(context, codes.count, [&](std::int64_t r) {
    const std::uint8_t* string = codes.arrays[0] + r * bytes;
    // A fresh buffer is all zeros.
    for_each_bit([&](std::size_t array, std::int64_t byte, std::int64_t bit, std::int64_t at) {
      std::uint8_t* to = plain.arrays[array] + r * stored.arrays[array].bytes_per_vector();
      const int value = (string[at / 8] >> (at % 8)) & 1;
      to[byte] = static_cast<std::uint8_t>(to[byte] | (value << bit));
    });
    for (std::size_t i = 0; i < others_.size(); ++i) {
      const std::int64_t size = stored.arrays[others_[i]].bytes_per_vector();
      std::copy_n(codes.arrays[i + 1] + r * size, size, plain.arrays[others_[i]] + r * size);
    }
  });
  inner_->decode(context, std::as_const(buffer).view(), x);
}

}  // namespace rotorquant
