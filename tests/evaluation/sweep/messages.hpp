#pragma once
// What an action says when it must fail, for the tests of this folder.
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "rotorquant/core/error.hpp"

namespace rotorquant::evaluation::testing {

// The message of the UsageError that `action` must throw.
inline std::string usage_message(const std::function<void()>& action) {
  try {
    action();
  } catch (const UsageError& error) {
    return error.what();
  }
  ADD_FAILURE() << "no UsageError";
  return "";
}

// The message of the Error that `action` must throw, and which is no UsageError.
inline std::string error_message(const std::function<void()>& action) {
  try {
    action();
  } catch (const UsageError& error) {
    ADD_FAILURE() << "a UsageError: " << error.what();
    return error.what();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "no Error";
  return "";
}

inline void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in '" << text << "'";
}

}  // namespace rotorquant::evaluation::testing
