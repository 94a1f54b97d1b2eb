#include "evaluation/report/html_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <tuple>
#include <utility>

#include "evaluation/report/table_rows.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

using Json = nlohmann::ordered_json;

std::string file_name(const std::string& path) {
  return std::filesystem::path(path).filename().string();
}

bool has_comparisons(const ReportFile& report) {
  return report.json.contains("comparisons");
}

// What comparisons of one candidate with one baseline on one dump found, width by width.
struct Finding {
  std::string where;
  std::string candidate;
  std::string baseline;
  std::string verdict;
  std::string gate;
  std::vector<std::string> bits;
  std::vector<std::string> ratios;
};

// "2", "2 and 3", "2, 3 and 4".
std::string listed(const std::vector<std::string>& words) {
  if (words.size() < 2) return words.empty() ? "" : words.front();
  return fmt::format("{} and {}", fmt::join(words.begin(), words.end() - 1, ", "), words.back());
}

std::string sentence(const Finding& found, const std::string& metric) {
  const std::string widths = fmt::format("{}at {} bits", found.where, listed(found.bits));
  const std::string ratios = found.ratios.size() == found.bits.size()
                                 ? fmt::format(" {} times {}'s", listed(found.ratios), found.baseline)
                                 : "";
  if (!found.gate.empty()) {
    return fmt::format("{} and {} {}: no ranking ({}).", found.candidate, found.baseline, widths, found.gate);
  }
  if (found.verdict == "candidate_better") {
    return fmt::format("{} is better than {} {} ({}{}).", found.candidate, found.baseline, widths, metric,
                       ratios);
  }
  if (found.verdict == "baseline_better") {
    return fmt::format("{} is worse than {} {} ({}{}).", found.candidate, found.baseline, widths, metric,
                       ratios);
  }
  return fmt::format("{} and {} do not differ significantly {} ({}{}).", found.candidate, found.baseline,
                     widths, metric, ratios);
}

// A sentence for each dump, candidate and verdict, of the metric that comparisons come with first: the most
// telling one.
void append_comparisons(const std::vector<ReportFile>& reports, const ReportFile& report,
                        std::vector<std::string>& verdict) {
  const Json& comparisons = report.json.at("comparisons");
  const Json& datasets = report.json.at("datasets");
  const std::string metric = comparisons.at(0).at("metric").get<std::string>();
  const std::string title = choose_metrics(reports, collect_blocks(reports), {metric}).front().column.title;
  std::vector<Finding> findings;
  for (const Json& comparison : comparisons) {
    if (comparison.at("metric") != metric) continue;
    const Json& dataset = datasets.at(comparison.at("dataset").get<std::size_t>());
    Finding found;
    if (datasets.size() > 1)
      found.where = fmt::format("on {} ", file_name(dataset.at("path").get<std::string>()));
    found.candidate = comparison.at("candidate").get<std::string>();
    found.baseline = comparison.at("baseline").get<std::string>();
    found.verdict = comparison.at("verdict").get<std::string>();
    found.gate = comparison.at("gate").get<std::string>();
    const auto same = [&](const Finding& known) {
      return std::tie(known.where, known.candidate, known.baseline, known.verdict, known.gate) ==
             std::tie(found.where, found.candidate, found.baseline, found.verdict, found.gate);
    };
    auto known = std::find_if(findings.begin(), findings.end(), same);
    if (known == findings.end()) known = findings.insert(findings.end(), std::move(found));
    known->bits.push_back(fmt::to_string(comparison.at("bits").get<std::int64_t>()));
    if (const Json& ratio = comparison.at("ratio"); !ratio.is_null())
      known->ratios.push_back(fmt::format("{:.3g}", ratio.get<double>()));
  }
  for (const Finding& found : findings) verdict.push_back(sentence(found, title));
}

void append_lowest(const std::vector<ReportFile>& reports, std::vector<std::string>& verdict) {
  for (const Block& block : collect_blocks(reports)) {
    if (block.isotropic) {
      verdict.push_back(
          fmt::format("{}: keys and values are isotropic, so no orthogonal rotation can be ranked on them.",
                      file_name(block.path)));
      continue;
    }
    const bool queries = std::any_of(block.rows.begin(), block.rows.end(), [](const SourceRow& row) {
      return row_metric(*row.json, "attention/kl").has_value();
    });
    const std::string tag = queries ? "attention/kl" : "key/nmse";
    const MetricColumn metric = choose_metrics(reports, {block}, {tag}).front();
    std::set<std::int64_t> widths;
    for (const SourceRow& row : block.rows) widths.insert(row.bits);
    std::string found;
    for (const std::int64_t bits : widths) {
      const SourceRow* best = nullptr;
      for (const SourceRow& row : block.rows) {
        const auto value = row_metric(*row.json, tag);
        if (row.bits == bits && value && (!best || value->mean < row_metric(*best->json, tag)->mean))
          best = &row;
      }
      if (!best) continue;
      found += fmt::format("{}{} at {} bits ({:.4g} stored a value, {})", found.empty() ? "" : "; ",
                           best->quantizer, bits, best->json->at("bits_per_value").get<double>(),
                           metric_cell(*best, metric).text);
    }
    verdict.push_back(
        fmt::format("{}: lowest mean {}: {}.", file_name(block.path), metric.column.title, found));
  }
  verdict.push_back(
      "Means alone rank nothing: 'rotorquant compare', or 'sweep --baseline NAME', tests differences over "
      "paired seeds.");
}

std::string joined(const Json& list) {
  std::vector<std::string> words;
  for (const Json& word : list) words.push_back(word.is_string() ? word.get<std::string>() : word.dump());
  return fmt::format("{}", fmt::join(words, " "));
}

HtmlFacts report_facts(const ReportFile& report) {
  const Json& meta = report.json.at("meta");
  const Json& git = meta.at("git");
  const bool dirty = git.at("dirty").is_boolean() && git.at("dirty").get<bool>();
  HtmlFacts facts{
      {"command", joined(meta.at("argv"))},
      {"tool", fmt::format("{} {}, git {}{}", meta.at("tool").get<std::string>(),
                           meta.at("version").get<std::string>(), git.at("revision").get<std::string>(),
                           dirty ? " with local changes" : "")},
      {"compiler",
       fmt::format("{} {}", meta.at("compiler").get<std::string>(), meta.at("flags").get<std::string>())},
      {"machine",
       fmt::format("{} ({})", meta.at("cpu").get<std::string>(), meta.at("isa").get<std::string>())},
      {"seeds", joined(meta.at("seeds"))},
      {"run", fmt::format("{}, {:.1f} s on {} threads", meta.at("time").at("utc").get<std::string>(),
                          meta.at("time").at("seconds").get<double>(),
                          meta.at("time").at("threads").get<std::int64_t>())}};
  for (const Json& dataset : report.json.at("datasets")) {
    facts.emplace_back("dump", fmt::format("{}, sha256 {}", dataset_title(dataset),
                                           dataset.at("sha256").get<std::string>()));
  }
  for (const Json& skipped : report.json.at("skipped")) {
    facts.emplace_back("skipped", fmt::format("{}: {}", skipped.at("what").get<std::string>(),
                                              skipped.at("why").get<std::string>()));
  }
  return facts;
}

// The models and dumps at hand, in a few words.
std::string page_title(const std::vector<ReportFile>& reports) {
  std::vector<std::string> dumps;
  for (const Block& block : collect_blocks(reports)) dumps.push_back(file_name(block.path));
  return fmt::format("KV-cache quantizers on {}", fmt::join(dumps, ", "));
}

}  // namespace

std::vector<std::string> verdict_in_words(const std::vector<ReportFile>& reports) {
  std::vector<std::string> verdict;
  for (const ReportFile& report : reports) {
    if (has_comparisons(report)) append_comparisons(reports, report, verdict);
  }
  if (verdict.empty()) append_lowest(reports, verdict);
  return verdict;
}

std::string html_report(const std::vector<ReportFile>& reports, const TableOptions& options,
                        std::vector<HtmlFigure> figures) {
  const Document rows = build_tables(reports, options);
  Document comparisons;
  HtmlPage page;
  try {
    page.title = page_title(reports);
    page.verdict = verdict_in_words(reports);
    for (const ReportFile& report : reports)
      page.provenance.emplace_back(file_name(report.path), report_facts(report));
  } catch (const Json::exception& error) {
    throw Error(fmt::format("these reports do not follow the report schema: {}", error.what()));
  }
  page.tables.emplace_back(options.layout == TableLayout::compare ? "Comparisons" : "Measurements", &rows);
  if (options.layout != TableLayout::compare &&
      std::any_of(reports.begin(), reports.end(), has_comparisons)) {
    TableOptions compare = options;
    compare.layout = TableLayout::compare;
    comparisons = build_tables(reports, compare);
    // The verdict has said it.
    for (Table& table : comparisons.tables) table.notes.clear();
    page.details.emplace_back("Comparisons", &comparisons);
  }
  page.figures = std::move(figures);
  return render_html(page);
}

}  // namespace rotorquant::evaluation
