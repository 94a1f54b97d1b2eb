#pragma once
// What the benchmark times: one operation of one quantizer, or a baseline such as a copy, on data of one
// size. CPU and GPU, ours and rivals': all are described this way, so that one harness times, compares and
// reports them.
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "rotorquant/core/element_type.hpp"

namespace rotorquant::evaluation {

// The data that every operation of one group works on.
struct BenchShape {
  std::int64_t dim = 128;
  int bits = 3;
  std::int64_t vectors = 0;
  rotorquant::ElementType type = rotorquant::ElementType::float16;
  std::string device = "cpu";  // "cpu", "cuda:0"
  int threads = 1;             // of the CPU
  std::string residence;       // where the buffers lie between runs: "L2", "DRAM", "HBM"
};

struct BenchOperation {
  std::string name;                // what is done: "encode", "decode", "score", "copy", ...
  std::string quantizer;           // by what: a quantizer's text or a rival's name; empty for copy and read
  std::int64_t bytes_read = 0;     // from memory, in one run, as an ideal program would
  std::int64_t bytes_written = 0;  // to memory, in one run
  // Throws an Error when the operation's result is wrong. Called once, before anything is timed; must leave
  // the operation ready to run.
  std::function<void()> check;
  // Runs the operation `repetitions` >= 1 times back to back and returns the seconds that took. Wrap a plain
  // callable with host_timer(); device code times by events on its stream.
  std::function<double(int repetitions)> time;

  std::int64_t bytes() const { return bytes_read + bytes_written; }
};

// Operations measured in interleaved rounds with one another. Ratios are formed inside a group alone.
struct BenchGroup {
  BenchShape shape;
  std::vector<BenchOperation> operations;
};

// Operation names that other rows are compared with.
inline constexpr char copy_operation[] = "copy";  // bytes_read = bytes_written
inline constexpr char read_operation[] = "read";  // the roofline of operations that hardly write
inline constexpr char attend_operation[] = "attend";

// A timer of a callable on this thread, by the monotonic clock.
std::function<double(int)> host_timer(std::function<void()> run);

}  // namespace rotorquant::evaluation
