#pragma once
// Attention over codes that have no kernel of their own: keys and values of a part of the cache at a time are
// decoded to rows, in fp16 where norms are, else in float32, and attended to there. Any two device quantizers
// of the same dimension.
#include <memory>

#include "rotorquant/device/packed_attention.hpp"

namespace rotorquant::device {

std::unique_ptr<PackedAttention> make_decoded_attention(std::shared_ptr<const Quantizer> keys,
                                                        std::shared_ptr<const Quantizer> values, int gpu);

}  // namespace rotorquant::device
