#pragma once
// SIGINT and SIGTERM as a question that long loops ask between two pieces of work, so that a sweep stops with
// everything finished so far in its journal.

namespace rotorquant::evaluation {

// While one lives, the two signals set a flag instead of ending the process; a second signal ends it.
class StopSignal {
 public:
  StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
  ~StopSignal();

  bool requested() const;
};

}  // namespace rotorquant::evaluation
