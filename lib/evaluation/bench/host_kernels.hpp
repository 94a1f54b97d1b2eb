#pragma once
// The CPU's memory baselines.
#include <cstdint>

#include "rotorquant/core/element_type.hpp"
#include "rotorquant/core/parallel.hpp"

namespace rotorquant::evaluation {

// std::memcpy in one piece for each thread.
void copy_memory(const Context& context, const std::uint8_t* from, std::uint8_t* to, std::int64_t bytes);

// Sum of the whole 64-bit words, modulo 2^64: reads every byte and writes nothing.
std::uint64_t read_memory(const Context& context, const std::uint8_t* from, std::int64_t bytes);

// scores[t] = <query, x(t)>, query [x.cols] in float32, sums in float32.
void score_rows(const Context& context, const float* query, const ConstHostTensor& x, float* scores);

}  // namespace rotorquant::evaluation
