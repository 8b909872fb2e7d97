# SPDX-License-Identifier: Apache-2.0
# find_package(twinlog) gives twinlog::twinlog (shared) and twinlog::static, and twinlog::raft where that is installed.
include(CMakeFindDependencyMacro)
find_dependency(Threads)
include(${CMAKE_CURRENT_LIST_DIR}/twinlog-targets.cmake)
if(EXISTS ${CMAKE_CURRENT_LIST_DIR}/twinlog-raft-targets.cmake)
  include(${CMAKE_CURRENT_LIST_DIR}/twinlog-raft-targets.cmake)
endif()
