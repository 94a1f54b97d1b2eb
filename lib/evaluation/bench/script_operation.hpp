#pragma once
// Rivals that live in another process, such as a Python library, timed in the same rounds as ours.
//
// The program is started by the shell with the shape in its environment (ROTORQUANT_BENCH_DIM, _BITS,
// _VECTORS, _TYPE, _THREADS, _DEVICE) and answers with one line of JSON:
//   {"operation": "encode", "quantizer": "faiss QT_3bit_tqmse", "bytes_read": N, "bytes_written": N}   or
//   {"skip": "why"}
// Then, for every line with a number of repetitions on its standard input, it runs the operation that many
// times and prints the seconds that took. It ends at the end of its input.
#include <optional>
#include <string>
#include <vector>

#include "evaluation/bench/cpu_operations.hpp"

namespace rotorquant::evaluation {

// Nothing when the program asks to be skipped, which `skipped` then tells. Errors: a program that does not
// start, answer or keep to the protocol.
std::optional<BenchOperation> script_operation(const std::string& command, const BenchShape& shape,
                                               std::vector<SkippedOperation>& skipped);

}  // namespace rotorquant::evaluation
