// rotorquant bench: how fast quantizers are on this machine, beside what it can do at most.
#include <fmt/format.h>

#include <chrono>

#include "commands/command.hpp"
#include "evaluation/bench/bench_report.hpp"
#include "evaluation/bench/gpu_operations.hpp"
#include "evaluation/bench/script_operation.hpp"
#include "evaluation/report/atomic_file.hpp"
#include "evaluation/report/report.hpp"
#include "evaluation/sweep/ranges.hpp"
#include "rotorquant/core/error.hpp"
#include "rotorquant/core/parallel.hpp"

namespace rotorquant::app {
namespace {

constexpr std::int64_t most_dims = 4096;
constexpr std::int64_t most_threads = 4096;

struct BenchOptions : CommonOptions {
  std::vector<std::string> operations;  // empty: the usual ones of the device
  std::vector<std::string> quantizers{"rotorquant", "turboquant:rotation=hadamard", "dense-gemm",
                                      "uncompressed"};
  std::string dims = "128";
  std::string bits = "3";
  std::vector<std::string> sizes{"l2", "dram"};
  bool latency = false;
  std::vector<std::string> types{"fp16"};
  std::string thread_counts = "1";
  std::vector<std::string> rivals;
  std::string transforms;
  FitOptions fit;
  evaluation::MeasureOptions measure;
};

rotorquant::ElementType element_type(const std::string& name) {
  for (const auto type : {rotorquant::ElementType::float16, rotorquant::ElementType::bfloat16,
                          rotorquant::ElementType::float32}) {
    if (name == rotorquant::element_type_name(type)) return type;
  }
  throw UsageError(fmt::format("type '{}'; valid: fp16, bf16, fp32", name));
}

// 1, 2, 4, ..., 8192 vectors: from one token of one head to a prompt's.
std::vector<std::string> latency_sizes() {
  std::vector<std::string> sizes;
  for (int vectors = 1; vectors <= 8192; vectors *= 2) sizes.push_back(std::to_string(vectors));
  return sizes;
}

std::vector<evaluation::BenchShape> shapes_of(const BenchOptions& options) {
  const std::vector<std::string> sizes = options.latency ? latency_sizes() : options.sizes;
  std::vector<evaluation::BenchShape> shapes;
  for (const std::int64_t dim : evaluation::parse_ranges(options.dims, "dims", 1, most_dims)) {
    for (const std::int64_t bits : evaluation::parse_ranges(options.bits, "bits", 1, 8)) {
      for (const std::string& type : options.types) {
        for (const std::int64_t threads :
             evaluation::parse_ranges(options.thread_counts, "threads", 0, most_threads)) {
          for (const std::string& size : sizes) {
            evaluation::BenchShape shape;
            shape.dim = dim;
            shape.bits = static_cast<int>(bits);
            shape.type = element_type(type);
            shape.threads = threads == 0 ? available_threads() : static_cast<int>(threads);
            shape.vectors = evaluation::vectors_of_size(size, dim, shape.type, shape.threads);
            shape.residence = size == "l2" ? "L2" : size == "dram" ? "DRAM" : "memory";
            if (options.device != "cpu") {
              shape.device = fmt::format("cuda:{}", gpu_index(options.device));
              shape.residence = "HBM";  // every run starts with a cache full of other data
            }
            shapes.push_back(shape);
          }
        }
      }
    }
  }
  return shapes;
}

std::vector<std::string> operations_of(const BenchOptions& options, bool on_gpu) {
  if (!options.operations.empty()) return options.operations;
  std::vector<std::string> usual{"encode", "decode", "score"};
  if (!on_gpu) usual.emplace_back("score-int8");
  return usual;
}

void run_bench(const BenchOptions& options, const Invocation& invocation) {
  check_device(options.device);
  const bool on_gpu = options.device != "cpu";
  const std::vector<std::string> operations = operations_of(options, on_gpu);
  const int gpu = gpu_index(options.device);
  const evaluation::BenchTransforms transforms{options.transforms, options.fit.parsed()};
  evaluation::RunInfo run;
  run.argv = invocation.argv;
  run.device = options.device;
  run.gpu = gpu_name(options.device);
  const auto start = std::chrono::steady_clock::now();
  std::vector<evaluation::BenchResult> results;
  std::vector<evaluation::SkippedOperation> skipped;
  for (const evaluation::BenchShape& shape : shapes_of(options)) {
    run.threads = std::max(run.threads, shape.threads);
    evaluation::BenchGroup group =
        on_gpu ? evaluation::gpu_group({operations, options.quantizers, shape, transforms, gpu}, skipped)
               : evaluation::cpu_group({operations, options.quantizers, shape, transforms}, skipped);
    for (const std::string& command : options.rivals) {
      if (auto operation = evaluation::script_operation(command, shape, skipped))
        group.operations.push_back(std::move(*operation));
    }
    if (!options.quiet) {
      fmt::print(stderr, "bench: {} vectors of {} {}, {} bits, {} threads\n", shape.vectors, shape.dim,
                 rotorquant::element_type_name(shape.type), shape.bits, shape.threads);
    }
    std::vector<evaluation::Measurement> measurements = evaluation::measure(group, options.measure);
    // The callables hold the buffers, which the next shape needs.
    for (evaluation::BenchOperation& operation : group.operations) {
      operation.check = nullptr;
      operation.time = nullptr;
    }
    results.push_back({std::move(group), std::move(measurements)});
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const nlohmann::ordered_json report = evaluation::bench_report(run, results, skipped, seconds);
  if (!options.output.empty()) evaluation::write_report(options.output, report);
  if (options.json) {
    fmt::print("{}", evaluation::report_text(report));
  } else if (!options.quiet && options.output != "-") {
    const std::vector<evaluation::ReportFile> reports{{"", report}};
    fmt::print("{}", evaluation::render_text(options.latency ? evaluation::latency_tables(reports)
                                                             : evaluation::bench_tables(reports)));
    for (const evaluation::SkippedOperation& entry : skipped)
      fmt::print("skipped: {}: {}\n", entry.what, entry.why);
  }
}

}  // namespace

void add_bench_command(CLI::App& app, const Invocation& invocation) {
  CLI::App* command = app.add_subcommand(
      "bench", "Time encode, decode, score and attention beside copies, reads and rivals on this machine");
  auto options = std::make_shared<BenchOptions>();
  command->add_option("--device", options->device, "Where to compute: cpu, cuda or cuda:INDEX")
      ->capture_default_str();
  command
      ->add_option(
          "--ops", options->operations,
          "encode, decode, score, score-int8, attend; on a GPU encode, decode, score, score-group (of four "
          "queries), attend, rotate (a dense rotation alone, by cuBLAS); default: encode, decode, score and "
          "on a CPU score-int8")
      ->delimiter(',');
  command
      ->add_option(
          "--quantizers", options->quantizers,
          "Quantizers; also dense-gemm (a dense rotation by a tuned matrix product) and uncompressed "
          "(scores of the vectors themselves); on a GPU fp16-split-k (attention over fp16 rows); dense-gemm "
          "on a GPU "
          "is cuBLAS in the type of the vectors")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--dims", options->dims, "Head dimensions")->capture_default_str();
  command->add_option("--bits", options->bits, "Bits of an index")->capture_default_str();
  command
      ->add_option("--sizes", options->sizes,
                   "How many vectors: l2 (half of a second-level cache for each thread), dram, or a number")
      ->delimiter(',')
      ->capture_default_str();
  command
      ->add_flag("--latency", options->latency,
                 "Time 1, 2, 4, ..., 8192 vectors in place of --sizes, and print microseconds in one table")
      ->excludes("--sizes");
  command->add_option("--type", options->types, "Number types of the vectors: fp16, bf16, fp32")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--threads", options->thread_counts, "Thread counts, such as 1,2; 0 for all")
      ->capture_default_str();
  command->add_option("--rounds", options->measure.rounds, "Samples of every operation")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  command
      ->add_option("--sample-seconds", options->measure.seconds_per_sample,
                   "Runs are repeated until a sample takes this long")
      ->check(CLI::Range(0.0, 60.0))
      ->capture_default_str();
  command
      ->add_option(
          "--rival", options->rivals,
          "A program to time beside ours, such as 'python3 app/rivals/faiss_encode.py'; several times "
          "for several")
      ->type_name("COMMAND");
  command
      ->add_option("--transforms", options->transforms,
                   "What 'rotorquant calibrate' wrote, for fitted quantizers such as rotorquant-calibrated "
                   "(default: they are fitted to the vectors at hand)")
      ->type_name("FILE");
  options->fit.add(*command);
  for (const char* name : {"--blocks", "--cascade-layers", "--centroid-bits"})
    command->get_option(name)->excludes("--transforms");
  options->add_output(*command, "Report (JSON)");
  command->footer(
      "Operations of one shape are timed in interleaved rounds; medians and ratios are over rounds.\n"
      "Example: rotorquant bench --dims 64,128 --bits 2-4 --threads 1,0 -o bench.json");
  command->callback([options, &invocation] { run_bench(*options, invocation); });
}

}  // namespace rotorquant::app
