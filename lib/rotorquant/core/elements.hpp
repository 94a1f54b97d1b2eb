#pragma once
// Whole rows of fp16, bf16 and fp32 numbers to and from float32.
#include <cstdint>

#include "rotorquant/core/element_type.hpp"

namespace rotorquant {

// count numbers of `type` at `from` -> to [count]. Exact.
void load_elements(ElementType type, const void* from, std::int64_t count, float* to);
// from [count] -> count numbers of `type`, rounded to nearest even.
void store_elements(ElementType type, const float* from, std::int64_t count, void* to);

}  // namespace rotorquant
