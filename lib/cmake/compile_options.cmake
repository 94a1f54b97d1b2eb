# Options shared by every target of this project, and by none of its consumers.
add_library(rotorquant_compile_options INTERFACE)
target_compile_features(rotorquant_compile_options INTERFACE cxx_std_20)
target_compile_options(rotorquant_compile_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wshadow -Wconversion>
  # One rounding per written operation: the same bits on every instruction set, whether it has fused multiply-add or not.
  $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off>)
if(ROTORQUANT_WARNINGS_AS_ERRORS)
  target_compile_options(rotorquant_compile_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # Vectors of 64 bytes are passed in other ways without AVX-512; none leaves a file of this project.
  target_compile_options(rotorquant_compile_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-psabi>)
  # GCC 12 takes the deliberately undefined operands of its own AVX-512 intrinsics for uninitialised variables.
  target_compile_options(rotorquant_compile_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-maybe-uninitialized>)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
  # GCC 13 sees a copy beyond its end in fmt's large numbers, and takes a reference that a function returns for one to
  # that function's arguments.
  target_compile_options(rotorquant_compile_options INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Wno-array-bounds -Wno-stringop-overflow -Wno-dangling-reference>)
endif()
if(ROTORQUANT_NATIVE)
  target_compile_options(rotorquant_compile_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-march=native>)
endif()
if(ROTORQUANT_SANITIZE)
  target_compile_options(rotorquant_compile_options INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${ROTORQUANT_SANITIZE} -fno-sanitize-recover=undefined -fno-omit-frame-pointer>)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # Instrumented, more of Eigen's decompositions meet the false alarm above, by another name.
    target_compile_options(rotorquant_compile_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-uninitialized>)
  endif()
  target_link_options(rotorquant_compile_options INTERFACE -fsanitize=${ROTORQUANT_SANITIZE})
endif()
