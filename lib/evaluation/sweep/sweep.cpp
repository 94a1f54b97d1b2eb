#include "evaluation/sweep/sweep.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <tuple>
#include <utility>

#include "evaluation/calibration/transforms_file.hpp"
#include "evaluation/dump/sha256.hpp"
#include "evaluation/report/build_info.hpp"
#include "evaluation/statistics/isotropy.hpp"
#include "evaluation/sweep/head_evaluation.hpp"
#include "evaluation/sweep/head_schedule.hpp"
#include "evaluation/sweep/journal.hpp"
#include "evaluation/sweep/progress.hpp"
#include "evaluation/sweep/settings.hpp"
#include "evaluation/sweep/stop_signal.hpp"
#include "evaluation/sweep/stopwatch.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/parallel.hpp"
#include "rotorquant/version.hpp"

namespace rotorquant::evaluation {
namespace {

// Of `present`, those asked for; one that is not there is a UsageError.
std::vector<std::int64_t> select(const std::vector<std::int64_t>& present,
                                 const std::optional<std::vector<std::int64_t>>& wanted,
                                 const std::string& what, const std::string& path) {
  if (!wanted) return present;
  for (const std::int64_t index : *wanted) {
    if (std::find(present.begin(), present.end(), index) == present.end()) {
      throw UsageError(
          fmt::format("{} {}: not in {}; valid: {}", what, index, path, fmt::join(present, ", ")));
    }
  }
  std::vector<std::int64_t> chosen = *wanted;
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

std::vector<std::int64_t> iota(std::int64_t count) {
  std::vector<std::int64_t> numbers;
  for (std::int64_t i = 0; i < count; ++i) numbers.push_back(i);
  return numbers;
}

// Everything of one dump that does not depend on the head.
struct DumpPlan {
  const Dump* dump = nullptr;
  std::shared_ptr<const Rope> rope;  // null unless calibrated keys need it
  std::vector<std::int64_t> layers;
  std::vector<std::int64_t> heads;
};

using CellKey = std::tuple<std::int64_t, std::int64_t, std::uint64_t, std::int64_t, std::int64_t>;

CellKey key_of(const Cell& cell) {
  return {cell.dataset, cell.setting, cell.seed, cell.layer, cell.kv_head};
}

// What the cells depend on. The journal of one identity cannot be continued under another.
std::string identity(const SweepRequest& request, const SweepExecution& execution,
                     const std::vector<const Dump*>& dumps, const SweepResult& result) {
  nlohmann::ordered_json header;
  header["journal"] = "rotorquant-journal/1";
  header["version"] = version;
  header["revision"] = fmt::format("{} {}", build_info::git_revision, build_info::git_state);
  header["request"] = to_json(request);
  header["device"] = execution.space == Space::cpu ? "cpu" : "cuda";
  header["maps"] = execution.maps;
  for (std::size_t i = 0; i < dumps.size(); ++i) {
    header["data"].push_back({result.datasets[i].sha256, dumps[i]->info().softmax_scale});
  }
  if (!request.transforms.empty()) header["transforms"] = file_sha256(request.transforms);
  return header.dump();
}

// Of a query and a key: an upper bound on what a reference keeps (products and probabilities, in float64 or
// rounded).
constexpr std::int64_t bytes_per_exact_pair = 16;

class Sweep {
 public:
  Sweep(const SweepRequest& request, const std::vector<Dump>& dumps, const SweepExecution& execution)
      : request_(request), execution_(execution), context_{execution.threads} {
    for (const Dump& dump : dumps) {
      plans_.push_back({&dump, nullptr, select(dump.info().layers, request.layers, "layer", dump.path()),
                        select(iota(dump.info().num_kv_heads), request.heads, "KV head", dump.path())});
    }
    check_dims(dumps);
    for (const std::int64_t seed : request.seeds) result_.seeds.push_back(static_cast<std::uint64_t>(seed));
    load_transforms();
    const DumpInfo& info = dumps.front().info();
    setting_context_ = {info.head_dim,      info.value_dim,  execution.space, transforms_,
                        request.transforms, info.num_layers, execution.gpu};
    SettingList list = expand_settings(request, setting_context_);
    result_.settings = std::move(list.settings);
    result_.skipped = std::move(list.skipped);
    check_calibration();
    check_layers(dumps);
    if (execution.space == Space::cuda && !request.exact_metrics) gpu_metrics_.emplace(execution.gpu);
    for (const DumpPlan& plan : plans_) describe(plan);
    build_all_methods();
  }

  SweepResult run() {
    const Stopwatch start;
    if (!execution_.journal_path.empty()) {
      std::vector<const Dump*> dumps;
      for (const DumpPlan& plan : plans_) dumps.push_back(plan.dump);
      journal_.emplace(execution_.journal_path, identity(request_, execution_, dumps, result_),
                       execution_.resume);
      for (const Cell& cell : journal_->restored()) finished_.insert_or_assign(key_of(cell), cell);
    }
    std::int64_t total = 0;
    for (const DumpPlan& plan : plans_) {
      total += static_cast<std::int64_t>(plan.layers.size() * plan.heads.size() * methods_.size());
    }
    Progress progress("sweep", total, static_cast<std::int64_t>(finished_.size()), execution_.quiet);
    progress_ = &progress;
    run_heads();
    // Keys are ordered as results are: dataset, setting, seed, layer, head.
    for (auto& [key, cell] : finished_) result_.cells.push_back(std::move(cell));
    result_.seconds = start.seconds();
    return std::move(result_);
  }

 private:
  void check_dims(const std::vector<Dump>& dumps) const {
    for (const Dump& dump : dumps) {
      const DumpInfo& first = dumps.front().info();
      const DumpInfo& info = dump.info();
      if (info.head_dim == first.head_dim && info.value_dim == first.value_dim) continue;
      throw Error(fmt::format(
          "{}: head_dim {} and value_dim {} differ from {} and {} of {}; valid: dumps of equal dims in one "
          "sweep",
          dump.path(), info.head_dim, info.value_dim, first.head_dim, first.value_dim, dumps.front().path()));
    }
  }

  // Which layers are at the edge depends on the model.
  void check_layers(const std::vector<Dump>& dumps) const {
    for (const Setting& setting : result_.settings) {
      for (const Dump& dump : dumps) {
        const std::int64_t first = dumps.front().info().num_layers;
        if (!has_edge_layers(setting) || dump.info().num_layers == first) continue;
        throw Error(fmt::format(
            "{}: its model has {} layers and that of {} has {}; valid with edge_layers: equal numbers",
            dump.path(), dump.info().num_layers, dumps.front().path(), first));
      }
    }
  }

  void describe(const DumpPlan& plan) {
    const DumpInfo& info = plan.dump->info();
    DatasetSummary summary;
    summary.path = plan.dump->path();
    summary.model = info.model;
    summary.source = info.source;
    summary.layers = plan.layers;
    summary.num_query_heads = info.num_query_heads;
    summary.num_kv_heads = info.num_kv_heads;
    summary.head_dim = info.head_dim;
    summary.value_dim = info.value_dim;
    summary.num_tokens = info.num_tokens;
    summary.num_queries = info.num_queries;
    const auto num_heads = static_cast<std::int64_t>(plan.heads.size());
    std::vector<IsotropyReport> reports(plan.layers.size() * plan.heads.size());
    std::vector<IsotropyReport> value_reports(reports.size());
    draw_isotropy_control(info.num_tokens, info.head_dim, 0, context_);
    draw_isotropy_control(info.num_tokens, info.value_dim, 0, context_);
    parallel_for(context_, static_cast<std::int64_t>(reports.size()) + 1, [&](std::int64_t item) {
      if (item == 0) {  // takes as long as several heads
        summary.sha256 = plan.dump->sha256();
        return;
      }
      const std::int64_t i = item - 1;
      const std::int64_t layer = plan.layers[static_cast<std::size_t>(i / num_heads)];
      const std::int64_t head = plan.heads[static_cast<std::size_t>(i % num_heads)];
      const std::vector<float> keys = plan.dump->read_key(layer, head);
      const std::vector<float> values = plan.dump->read_value(layer, head);
      value_reports[static_cast<std::size_t>(i)] =
          measure_isotropy({values.data(), info.num_tokens, info.value_dim}, 0);
      reports[static_cast<std::size_t>(i)] =
          measure_isotropy({keys.data(), info.num_tokens, info.head_dim}, 0);
    });
    const IsotropyReport pooled = pool_isotropy(reports);
    // Verdicts are about keys and values alike: data that cannot rank rotations are isotropic in both.
    summary.isotropic = pooled.isotropic && pool_isotropy(value_reports).isotropic;
    summary.eigenvalue_spread_ratio = pooled.eigenvalue_spread_ratio;
    summary.kurtosis_ratio = pooled.kurtosis_ratio;
    result_.datasets.push_back(std::move(summary));
    if (const std::string reason = no_attention_reason(*plan.dump); !reason.empty()) {
      result_.skipped.push_back({fmt::format("attention metrics of {}", plan.dump->path()), reason});
    }
  }

  // Why a dump has no attention metrics, or "".
  std::string no_attention_reason(const Dump& dump) const {
    const DumpInfo& info = dump.info();
    if (info.num_queries == 0) return info.no_queries_reason;
    const std::vector<std::int64_t>& tokens = dump.query_positions();
    const std::int64_t longest = *std::max_element(tokens.begin(), tokens.end());
    if (longest >= request_.min_context) return "";
    return fmt::format("no query sees {} earlier keys, the most is {}", request_.min_context, longest);
  }

  void load_transforms() {
    if (request_.transforms.empty()) return;
    transforms_ = std::make_shared<TransformSet>(read_transforms(request_.transforms));
    for (const CalibrationSource& source : transforms_->sources)
      result_.fit.push_back({source.name, source.sha256});
  }

  // Calibrated keys need the dump's rotary embedding, and transforms for each of its heads: known before any
  // work is done.
  void check_calibration() {
    for (const Setting& setting : result_.settings) {
      if (!setting.calibrated) continue;
      for (DumpPlan& plan : plans_)
        plan.rope = rope_for_calibrated(setting, setting_context_, *plan.dump, plan.layers, plan.heads);
    }
  }

  // Quantizers are the same for every head: built once for each setting and seed.
  void build_all_methods() {
    const auto num_seeds = static_cast<std::int64_t>(result_.seeds.size());
    methods_.resize(result_.settings.size() * result_.seeds.size());
    parallel_for(context_, static_cast<std::int64_t>(methods_.size()), [&](std::int64_t i) {
      const Setting& setting = result_.settings[static_cast<std::size_t>(i / num_seeds)];
      const std::uint64_t seed = result_.seeds[static_cast<std::size_t>(i % num_seeds)];
      methods_[static_cast<std::size_t>(i)].emplace(build_methods(setting, seed, setting_context_));
    });
  }

  // A head and those of its cells that are not finished.
  struct HeadTask {
    std::int64_t dataset = 0;
    HeadAddress address;
    std::vector<Cell> cells;
    std::unique_ptr<HeadEvaluation> evaluation;
  };

  std::vector<HeadTask> unfinished_heads() const {
    std::vector<HeadTask> tasks;
    for (std::size_t d = 0; d < plans_.size(); ++d) {
      for (const std::int64_t layer : plans_[d].layers) {
        for (const std::int64_t kv_head : plans_[d].heads) {
          HeadTask task{static_cast<std::int64_t>(d), {layer, kv_head}, {}, nullptr};
          for (std::size_t i = 0; i < methods_.size(); ++i) {
            Cell cell;
            cell.dataset = task.dataset;
            cell.setting = static_cast<std::int64_t>(i / result_.seeds.size());
            cell.seed = result_.seeds[i % result_.seeds.size()];
            cell.layer = layer;
            cell.kv_head = kv_head;
            if (!finished_.contains(key_of(cell))) task.cells.push_back(std::move(cell));
          }
          if (!task.cells.empty()) tasks.push_back(std::move(task));
        }
      }
    }
    return tasks;
  }

  // Several heads at once, so that threads have work while a head is being prepared; no more than what can
  // share the memory for exact rows, since a head whose rows are not kept computes them again for every
  // cell.
  void run_heads() {
    std::vector<HeadTask> tasks = unfinished_heads();
    const auto threads = static_cast<std::size_t>(std::max(1, execution_.threads));
    const std::size_t fitting = heads_that_fit();
    const std::size_t heads = std::max<std::size_t>(1, tasks.size());
    const std::size_t at_once = std::clamp<std::size_t>(fitting, 1, std::min(threads, heads));
    // A group's cells, the next group, and the last cells of the one before.
    const std::size_t in_memory = std::min(3 * at_once, heads);
    // With fewer heads than threads some threads wait for the first head; as long as most do not, that is
    // shorter than what all of them wait for heads that are read one by one.
    const bool ahead = 2 * at_once >= threads && fitting >= in_memory;
    const HeadOptions options = {
        .min_context = request_.min_context,
        .exact_metrics = request_.exact_metrics,
        .num_settings = static_cast<std::int64_t>(result_.settings.size()),
        .reference_bytes = default_reference_bytes / static_cast<std::int64_t>(ahead ? in_memory : at_once),
        .context = {ahead || at_once == threads ? 1 : execution_.threads},
        .gpu = gpu_metrics_ ? &*gpu_metrics_ : nullptr};
    if (!ahead) return run_groups(tasks, at_once, options);
    std::vector<std::size_t> cells;
    for (const HeadTask& task : tasks) cells.push_back(task.cells.size());
    run_ahead(context_, cells, at_once,
              {[&](std::size_t head) { prepare(tasks[head], options); },
               [&](std::size_t head, std::size_t cell) { run_cell(tasks[head], tasks[head].cells[cell]); },
               [&](std::size_t head) { release(tasks[head]); }});
  }

  void prepare(HeadTask& task, const HeadOptions& options) const {
    throw_if_stopped();
    task.evaluation = std::make_unique<HeadEvaluation>(*plan_of(task).dump, task.address, options);
  }

  // `at_once` heads, then their cells, then the next heads.
  void run_groups(std::vector<HeadTask>& tasks, std::size_t at_once, const HeadOptions& options) {
    for (std::size_t begin = 0; begin < tasks.size(); begin += at_once) {
      const std::span<HeadTask> group(tasks.data() + begin, std::min(at_once, tasks.size() - begin));
      // Threads share the rows of a head where there are fewer heads than threads.
      const Context across_heads = {options.context.threads > 1 ? 1 : execution_.threads};
      parallel_for(across_heads, static_cast<std::int64_t>(group.size()),
                   [&](std::int64_t i) { prepare(group[static_cast<std::size_t>(i)], options); });
      std::vector<std::pair<HeadTask*, Cell*>> cells;
      for (HeadTask& task : group) {
        for (Cell& cell : task.cells) cells.emplace_back(&task, &cell);
      }
      parallel_for(context_, static_cast<std::int64_t>(cells.size()), [&](std::int64_t i) {
        const auto& [task, cell] = cells[static_cast<std::size_t>(i)];
        run_cell(*task, *cell);
      });
      for (HeadTask& task : group) release(task);
    }
  }

  static void release(HeadTask& task) {
    task.evaluation.reset();
    task.cells = {};
  }

  void run_cell(HeadTask& task, Cell& cell) {
    throw_if_stopped();
    task.evaluation->evaluate(method_of(cell), plan_of(task).rope, cell);
    const std::scoped_lock lock(mutex_);
    if (journal_) journal_->append(cell);
    finished_.emplace(key_of(cell), std::move(cell));
    progress_->advance();
  }

  // Heads whose exact rows together stay within the memory for them.
  std::size_t heads_that_fit() const {
    std::int64_t largest = 1;
    for (const DumpPlan& plan : plans_) {
      const DumpInfo& info = plan.dump->info();
      const std::int64_t rows = info.num_queries * (info.num_query_heads / info.num_kv_heads);
      const std::int64_t pairs = rows * info.num_tokens / (info.causal ? 2 : 1);
      largest = std::max(largest, pairs * bytes_per_exact_pair);
    }
    return static_cast<std::size_t>(default_reference_bytes / largest);
  }

  const DumpPlan& plan_of(const HeadTask& task) const {
    return plans_[static_cast<std::size_t>(task.dataset)];
  }

  const MethodPair& method_of(const Cell& cell) const {
    const auto seed = std::find(result_.seeds.begin(), result_.seeds.end(), cell.seed);
    return *methods_[static_cast<std::size_t>(cell.setting) * result_.seeds.size() +
                     static_cast<std::size_t>(seed - result_.seeds.begin())];
  }

  void throw_if_stopped() const {
    if (!stop_.requested()) return;
    if (execution_.journal_path.empty()) throw Error("interrupted; nothing was written");
    throw Error(fmt::format("interrupted; finished cells are kept in {}: continue with --resume",
                            execution_.journal_path));
  }

  const SweepRequest& request_;
  const SweepExecution& execution_;
  Context context_;
  std::vector<DumpPlan> plans_;
  std::shared_ptr<const TransformSet> transforms_;
  SettingContext setting_context_;
  std::optional<DeviceMetrics> gpu_metrics_;
  std::vector<std::optional<MethodPair>> methods_;  // [settings][seeds]
  SweepResult result_;
  std::map<CellKey, Cell> finished_;
  std::optional<Journal> journal_;
  Progress* progress_ = nullptr;
  std::mutex mutex_;  // guards finished_, journal_ and progress_ while a head runs
  StopSignal stop_;
};

}  // namespace

SweepResult run_sweep(const SweepRequest& request, const std::vector<Dump>& dumps,
                      const SweepExecution& execution) {
  return Sweep(request, dumps, execution).run();
}

void discard_journal(const SweepExecution& execution) {
  if (!execution.journal_path.empty()) std::filesystem::remove(execution.journal_path);
}

}  // namespace rotorquant::evaluation
