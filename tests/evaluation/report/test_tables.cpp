// Each format on the report of the sample sweep, whose numbers are computed by hand in sample.hpp.
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "evaluation/report/comparisons.hpp"
#include "evaluation/report/sample.hpp"
#include "evaluation/report/tables.hpp"
#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation {
namespace {

using Json = nlohmann::ordered_json;
using testing::sample_comparison;
using testing::sample_report;

ReportFile compared_report(const std::string& verdict, const std::string& gate) {
  ReportFile report = sample_report();
  report.json["comparisons"] = Json::array({sample_comparison("key/nmse", verdict, gate)});
  return report;
}

std::string rendered(const std::vector<ReportFile>& reports, const TableOptions& options,
                     TableFormat format) {
  return render(build_tables(reports, options), format);
}

std::string failure(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TableOptions with_metrics(const std::vector<std::string>& metrics, TableLayout layout = TableLayout::rows) {
  TableOptions options;
  options.metrics = metrics;
  options.layout = layout;
  return options;
}

TEST(Tables, RowsAsText) {
  EXPECT_EQ(rendered({sample_report()}, {}, TableFormat::text),
            R"(Tiny-2L, tiny_dump.h5: 2 layers, 2 KV heads, 4 query heads, head dim 64, 100 tokens
quantizer            bits  bits/value       key NMSE  attention KL (nats)  worst attention KL (nats)
----------------------------------------------------------------------------------------------------
rotorquant:tail=pad     3       3.375  0.275 ± 0.035               0.0300             0.0400 (L5 H1)
turboquant              3       3.250  0.138 ± 0.018               0.0150             0.0200 (L5 H1)
Mean ± standard deviation over 2 seeds of the average over layers and KV heads.
attention KL: 2 (layer, KV head) cells do not have it and are left out.

Source: runs/report.json (rotorquant-report/1, rotorquant 1.2.3, git 89abcdef0123); tiny_dump.h5 sha256 0123456789ab
)");
}

TEST(Tables, RowsAsMarkdown) {
  TableOptions options;
  options.bold_best = true;
  EXPECT_EQ(rendered({sample_report()}, options, TableFormat::markdown),
            R"(**Tiny-2L, tiny\_dump.h5: 2 layers, 2 KV heads, 4 query heads, head dim 64, 100 tokens**

| quantizer | bits | bits/value ↓ | key NMSE ↓ | attention KL (nats) ↓ | worst attention KL (nats) |
|:---|---:|---:|---:|---:|---:|
| rotorquant:tail=pad | 3 | 3.375 | 0.275 ± 0.035 | 0.0300 | 0.0400 (L5 H1) |
| turboquant | 3 | 3.250 | **0.138** ± 0.018 | **0.0150** | 0.0200 (L5 H1) |

Mean ± standard deviation over 2 seeds of the average over layers and KV heads.

attention KL: 2 (layer, KV head) cells do not have it and are left out.

The best mean at each bit width is highlighted, where a ranking is possible.

Source: runs/report.json (rotorquant-report/1, rotorquant 1.2.3, git 89abcdef0123); tiny\_dump.h5 sha256 0123456789ab
)");
}

TEST(Tables, RowsAsLatex) {
  TableOptions options = with_metrics({"key/nmse"});
  options.bold_best = true;
  EXPECT_EQ(rendered({sample_report()}, options, TableFormat::latex), R"(% Needs \usepackage{booktabs}.
% Source: runs/report.json (rotorquant-report/1, rotorquant 1.2.3, git 89abcdef0123); tiny_dump.h5 sha256 0123456789ab

\begin{table}[t]
  \centering
  \caption{Tiny-2L, tiny\_dump.h5: 2 layers, 2 KV heads, 4 query heads, head dim 64, 100 tokens}
  \label{tab:rotorquant-1}
  \begin{tabular}{lrrrr}
    \toprule
    quantizer & bits & bits/value $\downarrow$ & key NMSE $\downarrow$ & worst key NMSE \\
    \midrule
    rotorquant:tail=pad & 3 & $3.375$ & $0.275 \pm 0.035$ & $0.400$ (L5 H1) \\
    turboquant & 3 & $3.250$ & $\mathbf{0.138} \pm 0.018$ & $0.200$ (L5 H1) \\
    \bottomrule
  \end{tabular}
  \par\smallskip{\footnotesize
    Mean $\pm$ standard deviation over 2 seeds of the average over layers and KV heads.
    The best mean at each bit width is highlighted, where a ranking is possible.
  \par}
\end{table}
)");
}

TEST(Tables, RowsAsCsvNameTheRowOfEveryNumber) {
  const std::string dump =
      "kv/tiny_dump.h5,0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef,";
  EXPECT_EQ(rendered({sample_report()}, with_metrics({"key/nmse"}), TableFormat::csv),
            "dataset,sha256,quantizer,bits,size/bits_per_value,key/nmse,key/nmse std,worst key/nmse,worst "
            "key/nmse at,"
            "keys,values,report,row\n" +
                dump +
                "rotorquant:tail=pad,3,3.375,0.275,0.03535533905932741,0.4,L5 H1,"
                "rotorquant:tail=pad,turboquant,runs/report.json,0\n" +
                dump +
                "turboquant,3,3.25,0.1375,0.017677669529663705,0.2,L5 "
                "H1,turboquant,turboquant,runs/report.json,1\n");
}

// The sample with its second setting at 2 bits.
ReportFile two_widths(const std::string& path = "runs/report.json") {
  ReportFile report = sample_report(path);
  report.json["rows"][1]["bits"] = 2;
  return report;
}

TEST(Tables, PivotPutsWidthsAcross) {
  EXPECT_EQ(
      rendered({two_widths()}, with_metrics({"key/nmse"}, TableLayout::pivot), TableFormat::text),
      R"(Tiny-2L, tiny_dump.h5: 2 layers, 2 KV heads, 4 query heads, head dim 64, 100 tokens; key NMSE (lower is better)
quantizer                   2 bits         3 bits
-------------------------------------------------
rotorquant:tail=pad              -  0.275 ± 0.035
turboquant           0.138 ± 0.018              -
Mean ± standard deviation over 2 seeds of the average over layers and KV heads.
Stored bits per value: 3.250 at 2, 3.375 at 3 bits.

Source: runs/report.json (rotorquant-report/1, rotorquant 1.2.3, git 89abcdef0123); tiny_dump.h5 sha256 0123456789ab
)");
}

TEST(Tables, PivotCsvNamesTheRowOfEveryNumber) {
  const std::string csv =
      rendered({two_widths()}, with_metrics({"key/nmse"}, TableLayout::pivot), TableFormat::csv);
  EXPECT_TRUE(has(csv,
                  "dataset,sha256,metric,quantizer,2 bits,2 bits std,2 bits bits_per_value,2 bits report,2 "
                  "bits row,3 bits,"));
  EXPECT_TRUE(has(csv, ",key/nmse,turboquant,0.1375,0.017677669529663705,3.25,runs/report.json,1,,,,,\n"))
      << csv;
}

TEST(Tables, RowsAreGroupedByWidth) {
  const Document document = build_tables({two_widths()}, {});
  EXPECT_EQ(document.tables[0].group_starts, std::vector<std::size_t>{1});
  EXPECT_TRUE(has(render_latex(document), "\\\\\n    \\midrule\n    rotorquant:tail=pad & 3"));
}

TEST(Tables, ReportsOnTheSameDumpShareATable) {
  ReportFile other = two_widths("other.json");
  other.json["datasets"][0]["path"] = "elsewhere/copy.h5";
  const Document document = build_tables({sample_report(), other}, {});
  ASSERT_EQ(document.tables.size(), 1U);
  EXPECT_EQ(document.tables[0].rows.size(), 4U);
  EXPECT_EQ(document.sources.size(), 2U);
  const std::string csv = render_csv(document);
  EXPECT_TRUE(has(csv, "runs/report.json,1\n"));
  EXPECT_TRUE(has(csv, "other.json,1\n"));
  EXPECT_TRUE(has(render_text(document), "[2]"));
}

TEST(Tables, DumpsHaveTablesOfTheirOwn) {
  ReportFile other = sample_report("other.json");
  other.json["datasets"][0]["sha256"] = std::string(64, 'f');
  EXPECT_EQ(build_tables({sample_report(), other}, {}).tables.size(), 2U);
}

TEST(Tables, PivotKeepsReportsApartThatMeasuredTheSame) {
  const Document document = build_tables({sample_report(), sample_report("other.json")},
                                         with_metrics({"key/nmse"}, TableLayout::pivot));
  ASSERT_EQ(document.tables[0].rows.size(), 4U);
  EXPECT_EQ(document.tables[0].rows[0][3].text, "rotorquant:tail=pad (cpu, [1])");
  EXPECT_EQ(document.tables[0].rows[3][3].text, "turboquant (cpu, [2])");
}

TEST(Tables, PivotRefusesARowTwice) {
  ReportFile report = sample_report();
  report.json["rows"].push_back(report.json["rows"][0]);
  EXPECT_EQ(failure([&] { build_tables({report}, with_metrics({}, TableLayout::pivot)); }),
            "report 'runs/report.json': rows 0 and 2 are the same quantizer, bits, dump and device");
}

std::size_t bold_cells(const ReportFile& report) {
  TableOptions options = with_metrics({"key/nmse"});
  options.bold_best = true;
  std::size_t count = 0;
  const Document document = build_tables({report}, options);
  for (const auto& row : document.tables[0].rows) {
    for (const TableCell& cell : row) count += cell.bold ? 1 : 0;
  }
  return count;
}

TEST(Tables, BoldNeedsARanking) {
  EXPECT_EQ(bold_cells(sample_report()), 1U);
  EXPECT_EQ(bold_cells(compared_report("baseline_better", "")), 1U);
  EXPECT_EQ(bold_cells(compared_report("no_ranking", "isotropic")), 0U);
  EXPECT_EQ(bold_cells(compared_report("no_significant_difference", "")), 0U);
  ReportFile isotropic = sample_report();
  isotropic.json["datasets"][0]["isotropy"]["isotropic"] = true;
  EXPECT_EQ(bold_cells(isotropic), 0U);
  EXPECT_TRUE(has(rendered({isotropic}, {}, TableFormat::text), "no orthogonal rotation can be ranked"));
}

TEST(Tables, BoldNeedsACompetitorAndKnowsTies) {
  EXPECT_EQ(bold_cells(two_widths()), 0U);
  ReportFile tied = sample_report();
  tied.json["rows"][0]["metrics"]["key/nmse"]["mean"] = 0.13751;
  EXPECT_EQ(bold_cells(tied), 2U);
}

TEST(Tables, ComparisonsAndTheirSentences) {
  TableOptions options;
  options.layout = TableLayout::compare;
  EXPECT_EQ(rendered({compared_report("no_ranking", "isotropic")}, options, TableFormat::text),
            R"(Tiny-2L, tiny_dump.h5: 2 layers, 2 KV heads, 4 query heads, head dim 64, 100 tokens
candidate            baseline    bits  metric              difference  ratio  cells won (%)  verdict
-------------------------------------------------------------------------------------------------------------------
rotorquant:tail=pad  turboquant     3  key/nmse  0.138 [0.125, 0.150]   2.00             25  no ranking (isotropic)
3 bits: key/nmse: turboquant is better.

Source: runs/report.json (rotorquant-report/1, rotorquant 1.2.3, git 89abcdef0123); tiny_dump.h5 sha256 0123456789ab
)");
  const std::string csv = rendered({compared_report("baseline_better", "")}, options, TableFormat::csv);
  EXPECT_TRUE(has(csv, "difference,difference low,difference high,ratio,"));
  EXPECT_TRUE(has(csv,
                  ",key/nmse,0.1375,0.125,0.15,2,25,,baseline better,key/nmse: turboquant is "
                  "better.,runs/report.json,0\n"));
  EXPECT_EQ(failure([&] { build_tables({sample_report()}, options); }),
            "report 'runs/report.json' has no comparisons; 'rotorquant compare', or 'sweep --baseline NAME', "
            "writes them");
}

TEST(Tables, MetricsComeFromTheOptionsThenTheConfiguration) {
  ReportFile report = sample_report();
  report.json["meta"]["config"]["metrics"] = {"ip/bias", "output/nmse"};
  EXPECT_EQ(build_tables({report}, {}).columns[5].name, "ip/bias");
  EXPECT_EQ(build_tables({report}, {}).columns[6].name, "worst ip/bias");
  EXPECT_EQ(build_tables({report}, with_metrics({"key/nmse"})).columns[5].name, "key/nmse");
}

TEST(Tables, ThroughputIsShownInThousandsOrMillions) {
  ReportFile report = sample_report();
  for (Json& row : report.json["rows"]) row["metrics"]["throughput/encode"]["mean"] = 2.5e6;
  const TableOptions options = with_metrics({"throughput/encode"});
  EXPECT_TRUE(has(rendered({report}, options, TableFormat::text), "encode (10^6 vectors/s)"));
  EXPECT_TRUE(
      has(rendered({report}, options, TableFormat::latex), "encode ($10^{6}$ vectors/s) $\\uparrow$"));
  EXPECT_TRUE(has(rendered({report}, options, TableFormat::csv), ",2500000,"));
}

TEST(Tables, WrongRequestsSayWhatWouldBeValid) {
  EXPECT_TRUE(has(failure([] { build_tables({sample_report()}, with_metrics({"key/nmsee"})); }),
                  "did you mean 'key/nmse'?"));
  EXPECT_THROW(build_tables({sample_report()}, with_metrics({"key/nmsee"})), UsageError);
  EXPECT_EQ(failure([] { build_tables({sample_report()}, with_metrics({"output/nmse"})); }),
            "no row of 'runs/report.json' holds the metric 'output/nmse': metrics of attention need dumps "
            "with queries");
  EXPECT_EQ(failure([] { table_format("latx"); }),
            "unknown table format 'latx'; expected latex, markdown, csv, html, text; did you mean 'latex'?");
  EXPECT_EQ(failure([] { table_layout("pivto"); }),
            "unknown table layout 'pivto'; expected rows, pivot, compare, equal-bits, stored, correlations; "
            "did you mean 'pivot'?");
}

TEST(Tables, AReportAgainstItsSchemaIsNamed) {
  ReportFile report = sample_report();
  report.json["rows"][0].erase("quantizer");
  const std::string message = failure([&] { build_tables({report}, {}); });
  EXPECT_TRUE(has(message, "report 'runs/report.json' does not follow its schema: ")) << message;
  EXPECT_TRUE(has(message, "quantizer")) << message;
}

Document one_cell(const std::string& text) {
  Document document;
  document.columns.resize(1);
  document.columns[0].name = document.columns[0].title = "name";
  document.tables.resize(1);
  TableCell cell;
  cell.text = text;
  document.tables[0].rows = {{cell}};
  return document;
}

TEST(TableFormats, LatexEscapesWhatTexReads) {
  const std::string latex = render_latex(one_cell(R"(a_b & 50% $x {y} #1 ~ ^ \ | < > ")"));
  EXPECT_TRUE(has(latex,
                  R"(a\_b \& 50\% \$x \{y\} \#1 \textasciitilde{} \textasciicircum{} \textbackslash{} )"
                  R"(\textbar{} \textless{} \textgreater{} '' \\)"))
      << latex;
}

TEST(TableFormats, LatexWritesExponentsAsPowers) {
  Document document = one_cell("8.3e-08");
  document.tables[0].rows[0][0].value = 8.3e-8;
  EXPECT_TRUE(has(render_latex(document), "$8.3 \\times 10^{-8}$"));
}

TEST(TableFormats, LatexCommentsStayComments) {
  Document document = one_cell("x");
  document.sources = {"a\nb.json"};
  EXPECT_TRUE(has(render_latex(document), "% Source: a b.json\n"));
}

TEST(TableFormats, MarkdownEscapesMarkup) {
  EXPECT_TRUE(
      has(render_markdown(one_cell("a|b *c* `d` [e] _f_\ng")), R"(| a\|b \*c\* \`d\` \[e\] \_f\_ g |)"));
}

TEST(TableFormats, CsvQuotesByTheRfc) {
  EXPECT_EQ(render_csv(one_cell("a,\"b\"\nc")), "name\n\"a,\"\"b\"\"\nc\"\n");
}

TEST(TableFormats, MissingCellsAreMarked) {
  EXPECT_TRUE(has(render_text(one_cell("")), "----\n-\n"));
  EXPECT_TRUE(has(render_markdown(one_cell("")), "| – |"));
  EXPECT_TRUE(has(render_latex(one_cell("")), "    -- \\\\"));
  EXPECT_EQ(render_csv(one_cell("")), "name\n\n");
}

}  // namespace
}  // namespace rotorquant::evaluation
