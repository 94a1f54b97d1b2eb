#include "evaluation/sweep/head_evaluation.hpp"

#include <fmt/format.h>

#include <utility>

#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {

HeadEvaluation::HeadEvaluation(const Dump& dump, HeadAddress address, const HeadOptions& options)
    : dump_(dump),
      address_(address),
      gpu_(options.gpu),
      keys_(dump.read_key(address.layer, address.kv_head)),
      values_(dump.read_value(address.layer, address.kv_head)),
      shared_keys_(static_cast<std::size_t>(options.num_settings)),
      shared_values_(static_cast<std::size_t>(options.num_settings)) {
  const DumpInfo& info = dump.info();
  tensors_.keys = {keys_.data(), info.num_tokens, info.head_dim};
  tensors_.values = {values_.data(), info.num_tokens, info.value_dim};
  if (info.num_queries > 0) {
    const std::int64_t group = info.num_query_heads / info.num_kv_heads;
    for (std::int64_t q = address.kv_head * group; q < (address.kv_head + 1) * group; ++q)
      queries_.push_back(dump.read_query(address.layer, q));
    for (const std::vector<float>& queries : queries_)
      tensors_.queries.emplace_back(queries.data(), info.num_queries, info.head_dim);
    tensors_.query_positions = dump.query_positions();
  }
  tensors_.softmax_scale = info.softmax_scale;
  tensors_.causal = info.causal;
  tensors_.min_context = options.min_context;
  if (options.exact_metrics) {
    exact_.emplace(tensors_, options.reference_bytes, options.context);
    return;
  }
  rounded_.emplace(tensors_, options.reference_bytes, options.context);
  if (gpu_ != nullptr) on_gpu_ = gpu_->upload(*rounded_, options.context);
}

void HeadEvaluation::evaluate(const MethodPair& methods, const std::shared_ptr<const Rope>& rope,
                              Cell& cell) {
  const auto setting = static_cast<std::size_t>(cell.setting);
  const char* tensor = "key";
  try {
    const auto keys = reconstruct(methods.keys, tensors_.keys, rope, shared_keys_[setting]);
    tensor = "value";
    const auto values = reconstruct(methods.values, tensors_.values, nullptr, shared_values_[setting]);
    tensor = "key and value";
    cell.metrics =
        metrics(seen_tensor(*keys, tensors_.keys.cols), seen_tensor(*values, tensors_.values.cols));
    cell.side = keys->side;
    for (const auto& [name, bits] : values->side) add_bits(cell.side, name, bits);
    cell.encode_seconds = keys->encode_seconds + values->encode_seconds;
    cell.decode_seconds = keys->decode_seconds + values->decode_seconds;
  } catch (const Error& error) {
    throw Error(fmt::format("{}: layers/{:03}/{} of KV head {}: {}", dump_.path(), address_.layer, tensor,
                            address_.kv_head, error.what()));
  }
}

std::shared_ptr<const Reconstruction> HeadEvaluation::reconstruct(const TensorMethod& method,
                                                                  HostView<const float> x,
                                                                  const std::shared_ptr<const Rope>& rope,
                                                                  Shared& shared) const {
  const auto compute = [&] {
    return std::make_shared<const Reconstruction>(
        reconstruct_tensor(method, address_.layer, address_.kv_head, x, dump_.positions(), rope));
  };
  if (method.depends_on_seed()) return compute();
  std::call_once(shared.once, [&] { shared.reconstruction = compute(); });
  return shared.reconstruction;
}

std::vector<double> HeadEvaluation::metrics(const SeenTensor& keys, const SeenTensor& values) const {
  if (on_gpu_) {
    if (auto metrics = gpu_->evaluate(*on_gpu_, keys, values)) return *metrics;
  }
  if (rounded_) {
    thread_local RoundedWorkspace workspace;
    return evaluate_cell(*rounded_, keys, values, workspace);
  }
  thread_local AttentionWorkspace workspace;
  return evaluate_cell(*exact_, keys, values, workspace);
}

}  // namespace rotorquant::evaluation
