#pragma once
// SHA-256 of files, the identity of data in reports.
#include <string>

namespace rotorquant::evaluation {

// 64 hexadecimal digits. The file is read in pieces; an unreadable file is an Error.
std::string file_sha256(const std::string& path);

}  // namespace rotorquant::evaluation
