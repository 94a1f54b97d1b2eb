// rotorquant tables: tables for papers, pages and spreadsheets from reports alone.
#include "evaluation/report/tables.hpp"

#include <algorithm>

#include "commands/command.hpp"
#include "evaluation/bench/bench_report.hpp"
#include "evaluation/figures/bench_figures.hpp"
#include "evaluation/figures/gnuplot.hpp"
#include "evaluation/figures/report_figures.hpp"
#include "evaluation/report/atomic_file.hpp"
#include "evaluation/report/html_report.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::app {
namespace {

struct TablesOptions {
  std::vector<std::string> reports;
  std::string format = "markdown";
  std::string layout = "rows";
  bool compare = false;
  std::vector<std::string> metrics;
  bool bold_best = false;
  std::vector<double> sizes;
  bool no_figures = false;
  std::string output = "-";
};

// Figures of an HTML page, drawn by gnuplot.
std::vector<evaluation::HtmlFigure> page_figures(const std::vector<evaluation::Figure>& figures,
                                                 const TablesOptions& options) {
  std::vector<evaluation::HtmlFigure> shown;
  if (options.no_figures) return shown;
  const std::vector<std::string> pictures = evaluation::draw_svg(figures);
  for (std::size_t i = 0; i < figures.size(); ++i) {
    shown.push_back({figures[i].title, figures[i].caption, pictures[i]});
  }
  return shown;
}

void run_tables(const TablesOptions& options) {
  check_outputs(options.reports, {options.output});
  const evaluation::TableFormat format = evaluation::table_format(options.format);
  evaluation::TableOptions table;
  table.layout =
      options.compare ? evaluation::TableLayout::compare : evaluation::table_layout(options.layout);
  table.metrics = options.metrics;
  table.bold_best = options.bold_best;
  if (!options.sizes.empty() && table.layout != evaluation::TableLayout::equal_bits) {
    throw UsageError("--at-bits goes with --layout equal-bits alone");
  }
  table.sizes = options.sizes;
  std::vector<evaluation::ReportFile> reports;
  for (const std::string& path : options.reports) reports.push_back(evaluation::read_report(path));
  const auto benchmarks = std::count_if(reports.begin(), reports.end(), evaluation::is_bench_report);
  if (benchmarks != 0 && benchmarks != std::ssize(reports)) {
    throw UsageError("reports of benchmarks and of sweeps share no table; valid: reports of one kind");
  }
  if (benchmarks != 0 && (options.compare || options.bold_best || !options.metrics.empty() ||
                          table.layout != evaluation::TableLayout::rows)) {
    throw UsageError(
        "--compare, --bold-best, --metrics and --layout are for reports of sweeps; valid: without them");
  }
  std::string text;
  if (format != evaluation::TableFormat::html) {
    text = evaluation::render(
        benchmarks != 0 ? evaluation::bench_tables(reports) : evaluation::build_tables(reports, table),
        format);
  } else if (benchmarks != 0) {
    const evaluation::Document document = evaluation::bench_tables(reports);
    evaluation::HtmlPage page = evaluation::tables_page("Speed of KV-cache quantizers", document);
    page.figures = page_figures(evaluation::bench_figures(reports), options);
    text = evaluation::render_html(page);
  } else {
    text = evaluation::html_report(reports, table,
                                   page_figures(evaluation::report_figures(reports, {}), options));
  }
  evaluation::write_file_atomically(options.output, text);
}

}  // namespace

void add_tables_command(CLI::App& app, const Invocation&) {
  CLI::App* command = app.add_subcommand("tables", "Make tables from reports");
  auto options = std::make_shared<TablesOptions>();
  command
      ->add_option("report", options->reports,
                   "Reports of sweep and compare, or of bench; - for standard input")
      ->required();
  command
      ->add_option("--format", options->format,
                   "markdown, latex (booktabs), csv, html (a whole report with figures) or text")
      ->capture_default_str();
  command
      ->add_option("--layout", options->layout,
                   "rows: a line per quantizer and width; pivot: quantizers down, widths across, a table per "
                   "metric; equal-bits: "
                   "quantizers down, equal stored bits across; stored: what rows store, kind by kind; "
                   "correlations: which metric "
                   "predicts attention; compare: comparisons and verdicts")
      ->capture_default_str();
  command->add_flag("--compare", options->compare, "The comparisons and their verdicts instead");
  command->add_option("--metrics", options->metrics, "Metrics to show, such as attention/kl,output/nmse")
      ->delimiter(',');
  command
      ->add_option(
          "--at-bits", options->sizes,
          "Stored bits a value for the layout equal-bits, such as 2.5,3.5; by default the baseline's")
      ->delimiter(',')
      ->check(CLI::PositiveNumber);
  command->add_flag("--bold-best", options->bold_best,
                    "The best of each width in bold, where a ranking is possible");
  command->add_flag("--no-figures", options->no_figures,
                    "An HTML report without figures, which gnuplot draws");
  command->add_option("-o,--output", options->output, "Where to write; - for standard output")
      ->type_name("FILE")
      ->capture_default_str();
  command->footer(
      "Several reports make one set of tables, a block for each dump.\n"
      "Example: rotorquant tables report.json --format latex --bold-best -o table.tex\n"
      "         rotorquant tables report.json --format html -o report.html");
  command->callback([options] { run_tables(*options); });
}

}  // namespace rotorquant::app
