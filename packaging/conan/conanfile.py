# SPDX-License-Identifier: Apache-2.0
"""A recipe for Conan 2: conan create packaging/conan. It builds the tree that it is in."""
import os
import re

from conan import ConanFile
from conan.errors import ConanInvalidConfiguration
from conan.tools.cmake import CMake, CMakeToolchain, cmake_layout
from conan.tools.files import copy, load, rm, rmdir
from conan.tools.gnu import PkgConfigDeps


class TwinlogConan(ConanFile):
    name = "twinlog"
    description = "A durable, group-committing, append-only log in a directory"
    license = "Apache-2.0"
    topics = ("log", "wal", "durability", "io-uring")
    package_type = "library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"shared": [True, False], "fPIC": [True, False], "tools": [True, False]}
    default_options = {"shared": False, "fPIC": True, "tools": False}
    implements = ["auto_shared_fpic"]
    languages = "C"

    @property
    def _tree(self):
        return os.path.join(self.recipe_folder, "..", "..")

    def set_version(self):
        header = load(self, os.path.join(self._tree, "include", "twinlog.h"))
        self.version = re.search(r'^#define TWINLOG_VERSION "(.*)"', header, re.MULTILINE).group(1)

    def export_sources(self):
        copy(self, "*", self._tree, self.export_sources_folder, excludes=("build/*", ".git/*"))

    def layout(self):
        cmake_layout(self, src_folder=".")

    def validate(self):
        if self.settings.os != "Linux" or self.settings.arch not in ("x86_64", "armv8"):
            raise ConanInvalidConfiguration("twinlog is for 64-bit Linux")

    def requirements(self):
        self.requires("liburing/[>=2.2 <3]")

    def generate(self):
        toolchain = CMakeToolchain(self)
        toolchain.cache_variables["TWINLOG_TESTS"] = False
        toolchain.cache_variables["TWINLOG_BENCH"] = False
        toolchain.cache_variables["TWINLOG_TOOLS"] = bool(self.options.tools)
        toolchain.cache_variables["TWINLOG_MINIMAL"] = True  # no package of the system beside liburing
        toolchain.generate()
        PkgConfigDeps(self).generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))
        CMake(self).install()
        lib = os.path.join(self.package_folder, "lib")
        rm(self, "libtwinlog.a" if self.options.shared else "libtwinlog.so*", lib)
        for folder in ("cmake", "pkgconfig"):  # Conan makes its own
            rmdir(self, os.path.join(lib, folder))

    def package_info(self):
        self.cpp_info.libs = ["twinlog"]
        self.cpp_info.set_property("pkg_config_name", "twinlog")
        self.cpp_info.set_property("cmake_file_name", "twinlog")
        self.cpp_info.set_property("cmake_target_name", "twinlog::twinlog" if self.options.shared else "twinlog::static")
        self.cpp_info.system_libs = ["pthread"]
