# SPDX-License-Identifier: Apache-2.0
# Read at the end of each folder that has tests: their time limits, where a machine is slower or busier than most.
if(TWINLOG_PATIENCE EQUAL 1)
  return()
endif()
get_property(tests DIRECTORY PROPERTY TESTS)
foreach(test IN LISTS tests)
  get_property(timeout TEST ${test} PROPERTY TIMEOUT)
  if(timeout)
    math(EXPR timeout "${timeout} * ${TWINLOG_PATIENCE}")
    set_property(TEST ${test} PROPERTY TIMEOUT ${timeout})
  endif()
endforeach()
