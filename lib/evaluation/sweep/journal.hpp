#pragma once
// The journal of a sweep: finished cells, one line of JSON each, flushed as they finish, so that a sweep that
// is killed at any moment resumes without losing one. The first line identifies the sweep; a last line cut
// short is dropped.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "evaluation/sweep/results.hpp"

namespace rotorquant::evaluation {

class Journal {
 public:
  // Opens the journal at `path`. identity: what the cells depend on (settings, seeds, data, version), as one
  // line of text. When a journal of the same identity exists, its cells are kept if `resume`, and it is an
  // Error otherwise: nothing that was computed is thrown away unasked. A journal of another identity is an
  // Error too.
  Journal(const std::string& path, const std::string& identity, bool resume);

  const std::vector<Cell>& restored() const { return restored_; }
  // Writes one finished cell. Not thread-safe.
  void append(const Cell& cell);

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };

  std::string path_;
  std::vector<Cell> restored_;
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace rotorquant::evaluation
