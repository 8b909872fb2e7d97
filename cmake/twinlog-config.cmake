# SPDX-License-Identifier: Apache-2.0
# find_package(twinlog) gives twinlog::twinlog (shared) and twinlog::static.
include(CMakeFindDependencyMacro)
find_dependency(Threads)
include(${CMAKE_CURRENT_LIST_DIR}/twinlog-targets.cmake)
