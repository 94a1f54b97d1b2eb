#pragma once
// Output files that appear under their final name only when complete.
#include <functional>
#include <iosfwd>
#include <string>

namespace rotorquant::evaluation {

// Whether PATH is "-", standard output, or a device or pipe: written in place, since there is nothing to
// replace.
bool is_stream(const std::string& path);

// Lets `write` fill PATH.partial and then renames it to PATH, or writes to a stream. When anything fails,
// an Error names the path and the reason, the partial file is removed and an older PATH stays as it
// was.
void write_file_atomically(const std::string& path, const std::function<void(std::ostream&)>& write);
void write_file_atomically(const std::string& path, const std::string& content);

}  // namespace rotorquant::evaluation
