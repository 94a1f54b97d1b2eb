#pragma once
// A table between a report and its printed form: what every format needs to know, and nothing of any format.
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace rotorquant::evaluation {

// Where a column appears: names of files and rows would clutter a page, and numbered references mean nothing
// in a CSV.
enum class Shown { everywhere, csv_only, page_only };

struct Column {
  std::string name;    // for programs: "attention/kl"
  std::string title;   // for people: "attention KL"
  std::string better;  // "lower", "higher", "zero", "one", or "" for what is not judged
  std::string unit;    // "nats", or "" for a pure number; includes the scale: "10^6 vectors/s"
  bool numeric = false;
  Shown shown = Shown::everywhere;
};

// A column whose title is its name and that is not judged.
Column column(const std::string& name, bool numeric, Shown shown = Shown::everywhere);

struct ShownInterval {
  double low = 0.0;
  double high = 0.0;
  std::string low_text;
  std::string high_text;
};

// Empty (no text) where a report has no such number.
struct TableCell {
  std::string text;              // as shown: a word, or the number in its column's format
  std::optional<double> value;   // in full precision
  std::optional<double> spread;  // standard deviation over seeds, in full precision
  std::string spread_text;
  std::optional<ShownInterval> interval;  // confidence interval
  std::string note;                       // shown after the number: the layer and head of a worst case
  bool bold = false;
};

struct Table {
  std::string title;
  std::vector<std::vector<TableCell>> rows;  // [rows][columns of the document]
  std::vector<std::size_t> group_starts;     // rows before which a rule is drawn
  std::vector<std::string> notes;            // sentences below the table
};

struct Document {
  std::vector<Column> columns;  // of every table
  std::vector<Table> tables;
  std::vector<std::string> sources;  // one line per report file: what the numbers come from
};

// "attention KL (nats, lower is better)".
std::string metric_heading(const Column& column);

enum class TableFormat { text, markdown, latex, csv, html };

// "latex", "markdown", "csv", "html" or "text"; anything else is a UsageError.
TableFormat table_format(const std::string& name);

// For `html` a page of these tables alone; html_report.hpp makes the whole report.
std::string render(const Document& document, TableFormat format);
// Only what a page shows: the columns that are not for CSV alone, as indices.
std::vector<std::size_t> page_columns(const Document& document);

std::string render_text(const Document& document);      // aligned columns for a terminal
std::string render_markdown(const Document& document);  // pipe tables
std::string render_latex(const Document& document);     // booktabs tables that need no other package
std::string render_csv(const Document& document);       // RFC 4180, one head, full precision

}  // namespace rotorquant::evaluation
