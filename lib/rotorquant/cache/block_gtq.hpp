#pragma once
// Block-GTQ (Liang, Zhang, Jia, arXiv 2606.24033): bit widths for the pairs of channels that RoPE turns
// together.
//
//   score of pair i   s_i = (E ||q_i||^2 + E ||k_i||^2) / 2, which RoPE does not change
//   widths            w_i in 1..8 with sum w_i = b * pairs, least sum s_i 4^-w_i (greedy marginal gains)
//   code              all pairs of one width together are a vector coded by TurboQuant at that width: a Haar rotation of their own, a
//                     Lloyd-Max codebook and a 16-bit scale, which is charged: 16 bits for each width in use;
//                     the planes of all widths follow one another without padding
//
// Keys are coded after RoPE. The stored scale is the least-squares one in place of the authors' rescaling to
// the vector's length: it takes the same bits and never does worse.
#include <cstdint>
#include <memory>
#include <vector>

#include "rotorquant/cache/rope.hpp"
#include "rotorquant/quantizers/key_statistics.hpp"
#include "rotorquant/quantizers/quantizer.hpp"

namespace rotorquant {

// Width of each channel [dim]; the channels of a pair share one. Channels that RoPE leaves alone pair up in
// their order, and one that is left over stands by itself.
std::vector<std::uint8_t> block_gtq_widths(const KeyStatistics& statistics, const Rope& rope, int bits);

std::shared_ptr<const Quantizer> block_gtq_quantizer(const KeyStatistics& statistics, const Rope& rope,
                                                     int bits, std::uint64_t seed);

}  // namespace rotorquant
