// The host's side of metrics on a GPU: heads in its memory, and the work of a cell on one of a few streams.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <iterator>
#include <mutex>

#include "evaluation/metrics/cell_sums.hpp"
#include "evaluation/metrics/changed_row.hpp"
#include "evaluation/metrics/device/cell_kernels.cuh"
#include "evaluation/metrics/device/device_metrics.hpp"
#include "rotorquant/device/runtime.cuh"

namespace rotorquant::evaluation {
namespace {

using device::ChangeRows;
using device::DevicePanels;
using device::DeviceRows;
using device::OutputProducts;
using device::panel_cols;
using device::RowPlace;
using device::RowResult;
using device::rows_at_once;
using device::RowTile;
using device::threads;
using device::warps;
using rotorquant::device::Buffer;
using rotorquant::device::check;
using rotorquant::device::check_launch;
using rotorquant::device::CurrentDevice;

template <typename T>
void send(const T* from, std::int64_t count, T* to, cudaStream_t stream) {
  check(
      cudaMemcpyAsync(to, from, static_cast<std::size_t>(count) * sizeof(T), cudaMemcpyHostToDevice, stream),
      "copy of a head to the GPU");
}

std::size_t size_of(std::int64_t count) {
  return static_cast<std::size_t>(count);
}

// Device memory that never shrinks.
template <typename T>
T* grown(Buffer<T>& buffer, std::int64_t count) {
  if (buffer.size() < size_of(count)) {
    buffer = Buffer<T>();
    buffer = Buffer<T>(size_of(count));
  }
  return buffer.data();
}

std::int64_t free_memory() {
  std::size_t available = 0, total = 0;
  check(cudaMemGetInfo(&available, &total), "look-up of the GPU's memory");
  return static_cast<std::int64_t>(available);
}

struct PanelBuffers {
  Buffer<std::int16_t> values;
  Buffer<float> scales;

  DevicePanels assign(const IntegerPanels& panels, cudaStream_t stream) {
    send(panels.panel(0, 0), panels.num_values(), grown(values, panels.num_values()), stream);
    send(panels.scales(0, 0), panels.num_scales(), grown(scales, panels.num_scales()), stream);
    return {values.data(), scales.data(), static_cast<std::int32_t>(panels.depth()),
            static_cast<std::int32_t>(panels.padded_cols())};
  }
};

// Of a query and a key: what a head holds, and what a cell needs on top.
constexpr std::int64_t head_bytes = 2 * sizeof(float) + sizeof(std::int16_t);
constexpr std::int64_t cell_bytes = sizeof(float) + sizeof(std::int16_t);
constexpr int most_cells = 4;  // in work on the GPU at a time; more would not be faster

}  // namespace

class DeviceMetrics::Head {
 public:
  Head(const RoundedReference& reference, const std::vector<RowTile>& all_tiles,
       const std::vector<RowPlace>& row_places, std::int64_t pairs, const Context& context, int gpu)
      : reference(reference),
        tiles(all_tiles),
        places(row_places),
        products(size_of(pairs)),
        probabilities(size_of(pairs)),
        rounded(size_of(pairs)),
        pairs(pairs),
        chunks(num_chunks(reference.exact().tensors().keys.rows)),
        scales(size_of(rows() * chunks)),
        top(size_of(rows())) {
    const auto& blocks = reference.exact().blocks();
    parallel_for(context, static_cast<std::int64_t>(blocks.size()), [&](std::int64_t index) {
      const CurrentDevice current(gpu);
      const AttentionReference::Block& block = blocks[static_cast<std::size_t>(index)];
      thread_local RoundedWorkspace workspace;
      const NarrowRows& exact = reference.rows(static_cast<std::size_t>(index), workspace);
      const std::int64_t begin = row_places[static_cast<std::size_t>(block.begin)].pairs;
      const std::int64_t count = block.rows * block.stride;
      send(exact.products.data(), count, products.data() + begin, nullptr);
      send(exact.probabilities.data(), count, probabilities.data() + begin, nullptr);
      send(exact.rounded.data(), count, rounded.data() + begin, nullptr);
      send(exact.scales.data(), block.rows * chunks, scales.data() + block.begin * chunks, nullptr);
      send(exact.top.data(), block.rows, top.data() + block.begin, nullptr);
      // The next block of this thread may take the same memory.
      if (!reference.keeps_rows()) check(cudaStreamSynchronize(nullptr), "copy of a head to the GPU");
    });
    values_panels = values.assign(reference.values(), nullptr);
    const IntegerRows all = reference.queries(blocks.front());
    queries = Buffer<std::int16_t>(size_of(rows() * all.stride));
    query_scales = Buffer<float>(size_of(rows() * all.scale_stride));
    send(all.values, rows() * all.stride, queries.data(), nullptr);
    send(all.scales, rows() * all.scale_stride, query_scales.data(), nullptr);
    query_rows = {queries.data(), all.stride, query_scales.data(),
                  static_cast<std::int32_t>(all.scale_stride)};
    for (const RowTile& tile : all_tiles) most_keys = std::max<std::int64_t>(most_keys, tile.keys);
    check(cudaStreamSynchronize(nullptr), "copy of a head to the GPU");
  }

  std::int64_t rows() const { return reference.exact().num_rows(); }

  const RoundedReference& reference;
  Buffer<RowTile> tiles;
  Buffer<RowPlace> places;
  Buffer<float> products;
  Buffer<float> probabilities;
  Buffer<std::int16_t> rounded;
  std::int64_t pairs;
  std::int64_t chunks;
  Buffer<float> scales;
  Buffer<TopKeys> top;
  PanelBuffers values;
  DevicePanels values_panels = {};
  Buffer<std::int16_t> queries;
  Buffer<float> query_scales;
  DeviceRows query_rows = {};
  std::int64_t most_keys = 0;
};

namespace {

// Memory and a stream for one cell at a time.
struct Workspace {
  Workspace() { check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making of a stream"); }
  ~Workspace() { cudaStreamDestroy(stream); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  // Of what grows with the pairs of a head.
  std::int64_t bytes() const { return static_cast<std::int64_t>(errors.size()) * cell_bytes; }

  cudaStream_t stream = nullptr;
  PanelBuffers keys;
  PanelBuffers values;
  Buffer<float> errors;
  Buffer<std::int16_t> changes;
  Buffer<float> change_scales;
  Buffer<float> outputs[3];
  Buffer<RowResult> results;
};

}  // namespace

// A few workspaces that threads take in turns.
class DeviceMetrics::Workspaces {
 public:
  Workspaces() { free_.reserve(most_cells); }

  // Of all that were made, in bytes; they never shrink.
  std::int64_t bytes() const { return bytes_; }
  // Makes room for the pairs of a head; false where others have taken the GPU's memory meanwhile.
  bool grow(Workspace& workspace, std::int64_t pairs) {
    const std::int64_t more = pairs * cell_bytes - workspace.bytes();
    if (more <= 0) return true;
    if (more > free_memory()) return false;
    bytes_ -= workspace.bytes();
    grown(workspace.errors, pairs);
    grown(workspace.changes, pairs);
    bytes_ += workspace.bytes();
    return true;
  }

  // One of them, until the end of its life.
  class Lease {
   public:
    explicit Lease(Workspaces& all) : all_(all), workspace_(all.take()) {}
    ~Lease() { all_.give_back(std::move(workspace_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Workspace& operator*() const { return *workspace_; }

   private:
    Workspaces& all_;
    std::unique_ptr<Workspace> workspace_;
  };

 private:
  std::unique_ptr<Workspace> take() {
    std::unique_lock lock(mutex_);
    returned_.wait(lock, [&] { return !free_.empty() || made_ < most_cells; });
    if (free_.empty()) {
      auto workspace = std::make_unique<Workspace>();
      ++made_;
      return workspace;
    }
    std::unique_ptr<Workspace> workspace = std::move(free_.back());
    free_.pop_back();
    return workspace;
  }
  void give_back(std::unique_ptr<Workspace> workspace) {
    const std::scoped_lock lock(mutex_);
    free_.push_back(std::move(workspace));
    returned_.notify_one();
  }

  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::unique_ptr<Workspace>> free_;
  int made_ = 0;
  std::atomic<std::int64_t> bytes_ = 0;
};

void DeviceMetrics::HeadDeleter::operator()(Head* head) const {
  delete head;
}

DeviceMetrics::DeviceMetrics(int gpu) : gpu_(gpu), workspaces_(std::make_unique<Workspaces>()) {
  const CurrentDevice current(gpu_);
}

DeviceMetrics::~DeviceMetrics() = default;

DeviceMetrics::HeadPointer DeviceMetrics::upload(const RoundedReference& reference,
                                                 const Context& context) const {
  const AttentionReference& exact = reference.exact();
  if (exact.num_rows() == 0) return nullptr;
  std::vector<RowTile> tiles;
  std::vector<RowPlace> places;
  std::int64_t pairs = 0;
  for (const AttentionReference::Block& block : exact.blocks()) {
    for (std::int64_t r = 0; r < block.rows; ++r) {
      const auto visible = static_cast<std::int32_t>(exact.row(block.begin + r).visible);
      const std::int64_t row_pairs = pairs + r * block.stride;
      if (r % device::tile_rows == 0) {
        const std::int64_t count = std::min<std::int64_t>(device::tile_rows, block.rows - r);
        tiles.push_back({row_pairs, static_cast<std::int32_t>(block.begin + r),
                         static_cast<std::int32_t>(count), 0, static_cast<std::int32_t>(block.stride)});
      }
      tiles.back().keys = std::max(tiles.back().keys, visible);
      places.push_back({row_pairs, static_cast<std::int32_t>(block.stride), visible});
    }
    pairs += block.rows * block.stride;
  }
  const CurrentDevice current(gpu_);
  // Workspaces that were made for other heads serve this one too.
  const std::int64_t available = free_memory() + workspaces_->bytes();
  if (pairs * (head_bytes + most_cells * cell_bytes) > available / 2) return nullptr;
  return HeadPointer(new Head(reference, tiles, places, pairs, context, gpu_));
}

std::optional<std::vector<double>> DeviceMetrics::evaluate(const Head& head, const SeenTensor& keys,
                                                           const SeenTensor& values) const {
  if (keys.has_window() || values.has_window()) return std::nullopt;
  const AttentionReference& exact = head.reference.exact();
  check_seen(exact.tensors(), keys, values);
  thread_local ErrorPanels panels;
  panels.assign(exact.tensors(), keys, values);
  const CurrentDevice current(gpu_);
  const Workspaces::Lease lease(*workspaces_);
  Workspace& w = *lease;
  const std::int64_t rows = head.rows();
  if (!workspaces_->grow(w, head.pairs)) return std::nullopt;
  std::vector<RowResult> results(size_of(rows));

  const DevicePanels key_panels = w.keys.assign(panels.keys, w.stream);
  const DevicePanels value_panels = w.values.assign(panels.values, w.stream);
  float* const errors = w.errors.data();
  std::int16_t* const changes = w.changes.data();
  float* const change_scales = grown(w.change_scales, rows * head.chunks);
  RowResult* const device_results = grown(w.results, rows);
  const auto num_tiles = static_cast<unsigned>(head.tiles.size());
  const auto blocks_of = [](std::int64_t count, std::int64_t size) {
    return static_cast<unsigned>((count + size - 1) / size);
  };

  device::key_errors_kernel<<<dim3(num_tiles, blocks_of(head.most_keys, warps * panel_cols)), threads, 0,
                              w.stream>>>(head.tiles.data(), head.query_rows,
                                          static_cast<int>(exact.tensors().keys.cols), key_panels, errors);
  check_launch("errors of scores");
  const ChangeRows change = {rows,
                             head.places.data(),
                             head.products.data(),
                             head.probabilities.data(),
                             head.top.data(),
                             exact.tensors().softmax_scale,
                             static_cast<float>(exact.pairs().mean),
                             errors,
                             changes,
                             change_scales,
                             static_cast<std::int32_t>(head.chunks),
                             device_results};
  device::change_rows_kernel<<<blocks_of(rows, rows_at_once), threads, 0, w.stream>>>(change);
  check_launch("changes of attention");
  const auto chunks = static_cast<std::int32_t>(head.chunks);
  const DeviceRows changed = {changes, 0, change_scales, chunks};
  const DeviceRows probabilities = {head.rounded.data(), 0, head.scales.data(), chunks};
  OutputProducts products = {{{changed, head.values_panels, nullptr},
                              {probabilities, value_panels, nullptr},
                              {changed, value_panels, nullptr}}};
  for (std::size_t i = 0; i < std::size(products.of); ++i)
    products.of[i].out = grown(w.outputs[i], rows * value_panels.padded_cols);
  device::outputs_kernel<<<dim3(num_tiles, blocks_of(value_panels.padded_cols, warps * panel_cols), 3),
                           threads, 0, w.stream>>>(head.tiles.data(), products);
  check_launch("errors of outputs");
  device::square_outputs_kernel<<<blocks_of(rows, threads), threads, 0, w.stream>>>(
      rows, static_cast<int>(exact.tensors().values.cols), value_panels.padded_cols, products.of[0].out,
      products.of[1].out, products.of[2].out, device_results);
  check_launch("squares of outputs");
  check(cudaMemcpyAsync(results.data(), device_results, results.size() * sizeof(RowResult),
                        cudaMemcpyDeviceToHost, w.stream),
        "copy of metrics from the GPU");
  check(cudaStreamSynchronize(w.stream), "metrics on the GPU");

  CellSums sums;
  for (std::int64_t r = 0; r < rows; ++r) {
    const RowResult& row = results[size_of(r)];
    if (!std::isfinite(row.squared_error)) return std::nullopt;
    const AttentionReference::Row& place = exact.row(r);
    const double divergence = std::isnan(row.second_order)
                                  ? wide_divergence(row.shift, row.sum, place.log_sum_exp,
                                                    exact.tensors().softmax_scale * row.expected_error)
                                  : std::log1p(row.second_order);
    sums.add_row({row.error, row.squared_error, row.error_truth, row.expected_error}, divergence, place.top,
                 {row.first != 0, row.common}, place.visible, exact.tensors().keys.rows);
    sums.add_outputs(row.output);
  }
  return cell_metrics(exact, keys, values, sums);
}

}  // namespace rotorquant::evaluation
