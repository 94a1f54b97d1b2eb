# Installed packages first; where one is missing and header-only or easily built, a pinned download.
include(FetchContent)
set(FETCHCONTENT_TRY_FIND_PACKAGE_MODE ALWAYS)

find_package(OpenMP REQUIRED COMPONENTS CXX)
if(ROTORQUANT_CUDA)
  find_package(CUDAToolkit REQUIRED)
endif()

FetchContent_Declare(Eigen3
  URL https://gitlab.com/libeigen/eigen/-/archive/3.4.0/eigen-3.4.0.tar.gz
  URL_HASH SHA256=8586084f71f9bde545ee7fa6d00288b264a2b7ac3607b974e54d13e7162c1c72
  FIND_PACKAGE_ARGS 3.4 CONFIG)
FetchContent_Declare(fmt
  URL https://github.com/fmtlib/fmt/archive/refs/tags/9.1.0.tar.gz
  URL_HASH SHA256=5dea48d1fcddc3ec571ce2058e13910a0d4a6bab4cc09a809d8b1dd1c88ae6f2
  FIND_PACKAGE_ARGS 8 CONFIG)
FetchContent_MakeAvailable(Eigen3 fmt)

if(ROTORQUANT_APP)
  FetchContent_Declare(nlohmann_json
    URL https://github.com/nlohmann/json/releases/download/v3.11.2/json.tar.xz
    URL_HASH SHA256=8c4b26bf4b422252e13f332bc5e388ec0ab5c3443d24399acb675e68278d341f
    FIND_PACKAGE_ARGS 3.10 CONFIG)
  FetchContent_Declare(CLI11
    URL https://github.com/CLIUtils/CLI11/archive/refs/tags/v2.3.2.tar.gz
    URL_HASH SHA256=aac0ab42108131ac5d3344a9db0fdf25c4db652296641955720a4fbe52334e22
    FIND_PACKAGE_ARGS 2.1 CONFIG)
  FetchContent_MakeAvailable(nlohmann_json CLI11)
  # OpenSSL and HDF5 are system libraries with their own release cycles: installed, never downloaded.
  find_package(OpenSSL REQUIRED COMPONENTS Crypto)
endif()

if(ROTORQUANT_APP OR ROTORQUANT_TESTS)
  enable_language(C)  # CMake's search for HDF5 compiles a C file
  find_package(HDF5 REQUIRED COMPONENTS C)
endif()

if(ROTORQUANT_TESTS)
  FetchContent_Declare(GTest
    URL https://github.com/google/googletest/archive/refs/tags/v1.14.0.tar.gz
    URL_HASH SHA256=8ad598c73ad796e0d8280b082cebd82a630d73e73cd3c70057938a6501bba5d7
    FIND_PACKAGE_ARGS 1.11 CONFIG)
  FetchContent_MakeAvailable(GTest)
endif()
