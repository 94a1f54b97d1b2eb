#include "rotorquant/core/isa.hpp"

#include <array>
#include <cstdlib>
#include <string>

#include "rotorquant/core/error.hpp"

namespace rotorquant {
namespace {

constexpr std::array all_isas{Isa::serial, Isa::avx2, Isa::avx512};

}  // namespace

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::serial:
      return "serial";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
  }
  return "unknown";
}

bool isa_supported(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::serial:
      return true;
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 &&
             __builtin_cpu_supports("f16c") != 0;
    case Isa::avx512:
      return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
             __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
             isa_supported(Isa::avx2);
  }
  return false;
#else
  return isa == Isa::serial;
#endif
}

bool vnni_supported() {
#if defined(__x86_64__)
  static const bool supported = isa_supported(Isa::avx512) && __builtin_cpu_supports("avx512vnni") != 0;
  return supported;
#else
  return false;
#endif
}

bool byte_matrices_supported() {
#if defined(__x86_64__)
  static const bool supported = isa_supported(Isa::avx512) && __builtin_cpu_supports("avx512vbmi") != 0 &&
                                __builtin_cpu_supports("gfni") != 0;
  return supported;
#else
  return false;
#endif
}

bool halves_wide_registers() {
#if defined(__x86_64__)
  static const bool halves = isa_supported(Isa::avx512) && __builtin_cpu_is("amdfam19h") != 0;
  return halves;
#else
  return false;
#endif
}

Isa select_isa(std::string_view requested) {
  if (requested.empty()) {
    Isa best = Isa::serial;
    for (const Isa isa : all_isas) {
      if (isa_supported(isa)) best = isa;
    }
    return best;
  }
  for (const Isa isa : all_isas) {
    if (isa_name(isa) != requested) continue;
    if (!isa_supported(isa)) {
      throw UsageError("ROTORQUANT_ISA=" + std::string(requested) + " is not supported by this processor");
    }
    return isa;
  }
  throw UsageError("ROTORQUANT_ISA=" + std::string(requested) + " is unknown; valid: serial, avx2, avx512");
}

Isa active_isa() {
  static const Isa isa = [] {
    const char* requested = std::getenv("ROTORQUANT_ISA");
    return select_isa(requested == nullptr ? "" : requested);
  }();
  return isa;
}

}  // namespace rotorquant
