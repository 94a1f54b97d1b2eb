# Run at every build (cmake -P): writes build_info.hpp from the state of the repository. The file is touched only when its
# content changes, so that an unchanged tree compiles nothing.
# Takes source_dir, template, output, compiler and flags.
set(git_revision "unknown")
set(git_state "unknown")
find_program(git git)
if(git)
  execute_process(COMMAND "${git}" rev-parse --show-toplevel WORKING_DIRECTORY "${source_dir}"
    OUTPUT_VARIABLE top_level OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  file(REAL_PATH "${source_dir}" real_source_dir)
  # Unpacked inside somebody else's repository, the sources are not of its revision.
  if(NOT failed AND top_level STREQUAL real_source_dir)
    execute_process(COMMAND "${git}" rev-parse --verify --quiet HEAD WORKING_DIRECTORY "${source_dir}"
      OUTPUT_VARIABLE head OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
    if(NOT failed)
      set(git_revision "${head}")
      execute_process(COMMAND "${git}" --no-optional-locks status --porcelain --untracked-files=no
        WORKING_DIRECTORY "${source_dir}" OUTPUT_VARIABLE changes ERROR_QUIET RESULT_VARIABLE failed)
      if(NOT failed)
        if(changes STREQUAL "")
          set(git_state "clean")
        else()
          set(git_state "dirty")
        endif()
      endif()
    endif()
  endif()
endif()
foreach(text compiler flags)
  string(REPLACE "\\" "\\\\" ${text} "${${text}}")
  string(REPLACE "\"" "\\\"" ${text} "${${text}}")
endforeach()
configure_file("${template}" "${output}" @ONLY)
