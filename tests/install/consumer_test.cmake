# Installs the core library into an empty folder, then configures, builds and runs a small program against what is there.
# cmake -D build_dir=... -D source_dir=... -D work_dir=... -D generator=... -D compiler=... -D config=... -D version=... -P
function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE failed OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(failed)
    string(JOIN " " command ${ARGV})
    message(FATAL_ERROR "${command}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE "${work_dir}")
run("${CMAKE_COMMAND}" --install "${build_dir}" --prefix "${work_dir}/prefix" --config "${config}")
run("${CMAKE_COMMAND}" -S "${source_dir}/consumer" -B "${work_dir}/build" -G "${generator}"
    "-DCMAKE_CXX_COMPILER=${compiler}" "-DCMAKE_BUILD_TYPE=${config}" "-DCMAKE_CXX_FLAGS=${flags}"
    "-DCMAKE_PREFIX_PATH=${work_dir}/prefix")
run("${CMAKE_COMMAND}" --build "${work_dir}/build" --config "${config}")
find_program(consumer consumer PATHS "${work_dir}/build" "${work_dir}/build/${config}" NO_DEFAULT_PATH REQUIRED)
run("${consumer}")
if(NOT output MATCHES "^rotorquant ${version}: [0-9.]+ bits a value")
  message(FATAL_ERROR "the consumer printed: ${output}")
endif()
message(STATUS "${output}")
