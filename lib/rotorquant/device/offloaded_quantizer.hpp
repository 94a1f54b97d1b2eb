#pragma once
// A quantizer whose encode and decode run on a GPU, with inputs and outputs on the host: what evaluations use
// to measure device kernels in place of the CPU's.
#include <memory>

#include "rotorquant/quantizers/quantizer.hpp"

namespace rotorquant {

// Calls from several threads take turns. Errors: those of make_device_quantizer, and out of device memory.
std::shared_ptr<const Quantizer> run_on_gpu(std::shared_ptr<const Quantizer> quantizer, int gpu);

}  // namespace rotorquant
