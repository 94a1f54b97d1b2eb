// HTML pages of the sample sweep, whose numbers are computed by hand in sample.hpp.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "evaluation/report/comparisons.hpp"
#include "evaluation/report/html_report.hpp"
#include "evaluation/report/sample.hpp"

namespace rotorquant::evaluation {
namespace {

using Json = nlohmann::ordered_json;
using testing::sample_comparison;
using testing::sample_report;

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

ReportFile compared(const std::string& verdict, const std::string& gate) {
  ReportFile report = sample_report();
  report.json["comparisons"] = Json::array({sample_comparison("key/nmse", verdict, gate)});
  return report;
}

TEST(Html, CellsCarryTheirNumbersInFull) {
  const std::string page = html_report({sample_report()}, {}, {});
  EXPECT_TRUE(has(page, "<th scope=\"row\">rotorquant:<wbr>tail=<wbr>pad</th>")) << page;
  EXPECT_TRUE(has(page, ">0.275 <span class=\"spread\">± 0.035</span></td>")) << page;
  EXPECT_TRUE(has(page, "data-value=\"0.03\"")) << page;
  EXPECT_TRUE(has(page, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"));
  EXPECT_TRUE(has(page, "head_dim 64 is not a multiple of 48"));
}

TEST(Html, NothingComesFromElsewhere) {
  const std::string page = html_report({sample_report()}, {}, {{"t", "c", "<svg/>"}});
  for (const char* reference : {"http:", "https:", "<link", "@import", "src=\"/", "url("})
    EXPECT_FALSE(has(page, reference)) << reference;
  EXPECT_TRUE(has(page, "src=\"data:image/svg+xml;base64,PHN2Zy8+\""));
}

TEST(Html, PicturesOfEveryLengthAreBase64) {
  // RFC 4648, section 10.
  const std::vector<std::pair<std::string, std::string>> vectors{
      {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}};
  for (const auto& [bytes, text] : vectors) {
    HtmlPage page;
    page.figures = {{"t", "c", bytes}};
    EXPECT_TRUE(has(render_html(page), "base64," + text + "\"")) << bytes;
  }
}

TEST(Html, MarkupInNamesStaysText) {
  ReportFile report = sample_report();
  report.json["rows"][0]["quantizer"] = "<script>alert('&\"')</script>";
  const std::string page = html_report({report}, {}, {});
  EXPECT_FALSE(has(page, "<script>alert"));
  EXPECT_TRUE(has(page, "&lt;script&gt;alert(&#39;&amp;&quot;&#39;)&lt;/script&gt;"));
}

TEST(Html, TheVerdictComesFirstInWords) {
  const std::string better = verdict_in_words({compared("candidate_better", "")}).at(0);
  EXPECT_TRUE(has(better, " is better than ")) << better;
  EXPECT_TRUE(has(better, "key NMSE")) << better;
  EXPECT_TRUE(has(verdict_in_words({compared("baseline_better", "")}).at(0), " is worse than "));
  EXPECT_TRUE(has(verdict_in_words({compared("no_significant_difference", "")}).at(0),
                  "do not differ significantly"));
  const std::string gated = verdict_in_words({compared("no_ranking", "isotropic")}).at(0);
  EXPECT_TRUE(has(gated, "no ranking (isotropic)")) << gated;
  const std::string page = html_report({compared("candidate_better", "")}, {}, {});
  EXPECT_LT(page.find("class=\"verdict\""), page.find("<table"));
  EXPECT_LT(page.find("<h2>Measurements"), page.find("<h2>Comparisons"));
}

TEST(Html, WithoutComparisonsMeansAreOnlyNamed) {
  const std::vector<std::string> verdict = verdict_in_words({sample_report()});
  EXPECT_TRUE(has(verdict.at(0), "lowest mean attention KL: turboquant at 3 bits")) << verdict.at(0);
  EXPECT_TRUE(has(verdict.back(), "Means alone rank nothing"));
  ReportFile isotropic = sample_report();
  isotropic.json["datasets"][0]["isotropy"]["isotropic"] = true;
  EXPECT_TRUE(has(verdict_in_words({isotropic}).at(0), "no orthogonal rotation can be ranked"));
}

}  // namespace
}  // namespace rotorquant::evaluation
