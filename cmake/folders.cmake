# SPDX-License-Identifier: Apache-2.0
# Run first by an installation, with folders set: makes those that are not there yet, so that others may look into them. cmake
# would make them as the umask says.
cmake_policy(VERSION 3.25)
get_filename_component(prefix "${CMAKE_INSTALL_PREFIX}" ABSOLUTE)
foreach(folder IN LISTS folders)
  get_filename_component(folder "${folder}" ABSOLUTE BASE_DIR "${prefix}")
  set(folder "$ENV{DESTDIR}${folder}")
  set(made)
  while(NOT EXISTS "${folder}")
    list(PREPEND made "${folder}")
    get_filename_component(folder "${folder}" DIRECTORY)
  endwhile()
  foreach(folder IN LISTS made)
    file(MAKE_DIRECTORY "${folder}")
    file(CHMOD "${folder}" PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
  endforeach()
endforeach()
