#pragma once
// Writes a dump in our format (see dump.hpp): one chunk per head and stretch of tokens, shuffled and
// deflated, so that any HDF5 reads it. The file is PATH.partial until everything that DumpInfo promises is
// there. The same calls give the same bytes: no times are stored.
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "evaluation/dump/dump.hpp"
#include "evaluation/dump/element_type.hpp"
#include "rotorquant/core/view.hpp"

namespace rotorquant::evaluation {

class DumpWriter {
 public:
  // Creates every dataset of `info` (num_queries = 0: without queries). `type`: float16, float32 or bfloat16.
  // An invalid `info` or an unwritable path is an Error; has_* fields are not used: what is written counts.
  DumpWriter(const std::string& path, const DumpInfo& info, ElementType type);
  // Removes PATH.partial when finish has not been called.
  ~DumpWriter();
  DumpWriter(const DumpWriter&) = delete;
  DumpWriter& operator=(const DumpWriter&) = delete;

  // One head of one layer. A value that is not finite once rounded to the element type is an Error that names
  // layer, head, token and channel. Any thread may write; the bytes of the file depend on the order of the
  // calls.
  void write_key(std::int64_t layer, std::int64_t kv_head, HostView<const float> keys);      // [T, head_dim]
  void write_value(std::int64_t layer, std::int64_t kv_head, HostView<const float> values);  // [T, value_dim]
  void write_query(std::int64_t layer, std::int64_t query_head,
                   HostView<const float> queries);  // [T_q, head_dim]

  void write_positions(std::span<const std::int64_t> positions);        // [T]
  void write_token_ids(std::span<const std::int64_t> token_ids);        // [T]
  void write_query_positions(std::span<const std::int64_t> positions);  // [T_q], in units of the positions
  void write_rope_inv_freq(std::span<const double> frequencies);        // [rotary_dim / 2]

  // Checks that every head has been written (and query_positions where T_q != T), closes and renames.
  void finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace rotorquant::evaluation
