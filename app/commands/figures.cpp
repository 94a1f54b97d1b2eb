// rotorquant figures: pictures from reports alone, with the data and the gnuplot script of each beside it.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "commands/command.hpp"
#include "evaluation/figures/bench_figures.hpp"
#include "evaluation/figures/gnuplot.hpp"
#include "evaluation/figures/report_figures.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::app {
namespace {

struct FiguresOptions {
  std::vector<std::string> reports;
  std::vector<std::string> formats{"pdf", "svg", "png"};
  std::int64_t bits = 0;
  std::string folder;
};

void run_figures(const FiguresOptions& options) {
  for (const std::string& format : options.formats) evaluation::check_picture_format(format);
  std::vector<evaluation::ReportFile> reports;
  for (const std::string& path : options.reports) reports.push_back(evaluation::read_report(path));
  const auto benchmarks = std::count_if(reports.begin(), reports.end(), evaluation::is_bench_report);
  if (benchmarks != 0 && benchmarks != std::ssize(reports))
    throw UsageError("reports of benchmarks and of sweeps share no figure; valid: reports of one kind");
  if (benchmarks != 0 && options.bits > 0)
    throw UsageError("--bits is for reports of sweeps; valid: without it");
  evaluation::FigureOptions figure_options;
  if (options.bits > 0) figure_options.bits = options.bits;
  const std::vector<evaluation::Figure> figures = benchmarks != 0
                                                      ? evaluation::bench_figures(reports)
                                                      : evaluation::report_figures(reports, figure_options);
  if (figures.empty())
    throw Error("these reports hold too few numbers for a figure; valid: reports of several rows");
  for (const std::string& path : evaluation::draw_figures(figures, options.folder, options.formats))
    fmt::print("{}\n", path);
}

}  // namespace

void add_figures_command(CLI::App& app, const Invocation&) {
  CLI::App* command = app.add_subcommand("figures", "Draw figures from reports");
  auto options = std::make_shared<FiguresOptions>();
  command
      ->add_option("report", options->reports,
                   "Reports of sweep and compare, or of bench; - for standard input")
      ->required();
  command->add_option("--formats", options->formats, "Pictures to draw: pdf, svg, png")
      ->delimiter(',')
      ->capture_default_str();
  command
      ->add_option("--bits", options->bits,
                   "Bit width of the figures that show one (default: the middle one of the report)")
      ->check(CLI::Range(1, 16));
  command
      ->add_option("-o,--output", options->folder, "Folder for the pictures, their data and gnuplot scripts")
      ->type_name("FOLDER")
      ->required();
  command->footer(
      "Needs gnuplot. Each figure is NAME.dat, NAME.gp and its pictures; edit them and run gnuplot NAME.gp.\n"
      "Example: rotorquant figures report.json --formats pdf -o figures");
  command->callback([options] { run_figures(*options); });
}

}  // namespace rotorquant::app
