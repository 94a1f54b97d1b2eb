#pragma once
// Decoding and scoring of trellis codes of any rotation, dim, width and memory: one thread a vector, one warp
// a block. The general path; hopper/trellis_decoder.cuh and trellis_scores.cuh have the fast ones for the
// usual cases.
#include "rotorquant/device/device_quantizer.hpp"
#include "rotorquant/device/rotation.cuh"
#include "rotorquant/device/trellis_tables.cuh"

namespace rotorquant::device {

void decode_trellis_rows(cudaStream_t stream, const TrellisView& tables, const RotationView& rotation,
                         const std::uint8_t* codes, const DeviceTensor& x);
// rotated_queries [m, dim]: R q. scores [m, n].
void score_trellis_rows(cudaStream_t stream, const TrellisView& tables, const float* rotated_queries,
                        std::int64_t m, const std::uint8_t* codes, std::int64_t n, float* scores);

}  // namespace rotorquant::device
