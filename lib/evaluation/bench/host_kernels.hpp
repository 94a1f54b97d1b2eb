#pragma once
// The CPU's memory baselines.
#include <cstdint>

#include "rotorquant/core/element_type.hpp"
#include "rotorquant/core/parallel.hpp"
#include "rotorquant/core/view.hpp"

namespace rotorquant::evaluation {

// std::memcpy in one piece for each thread.
void copy_memory(const Context& context, const std::uint8_t* from, std::uint8_t* to, std::int64_t bytes);

// Sum of the whole 64-bit words, modulo 2^64: reads every byte and writes nothing.
std::uint64_t read_memory(const Context& context, const std::uint8_t* from, std::int64_t bytes);

// scores(i, t) = <queries(i), x(t)>, queries [m, x.cols], scores [m, x.rows], sums in float32.
void score_rows(const Context& context, HostView<const float> queries, const ConstHostTensor& x,
                HostView<float> scores);

// sums(i) = Σ_t weights(i, t) x(t), weights [m, x.rows], sums [m, x.cols].
void sum_rows(const Context& context, HostView<const float> weights, const ConstHostTensor& x,
              HostView<float> sums);

}  // namespace rotorquant::evaluation
