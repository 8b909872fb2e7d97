# SPDX-License-Identifier: Apache-2.0
"""recipe.py TREE: runs the methods of packaging/conan with stand-ins for the modules of Conan, and compares what it and
packaging/vcpkg say with the project."""
import importlib.util
import json
import os
import re
import sys
import types

tree = os.path.abspath(sys.argv[1])
calls = []


def note(name):
    return lambda *arguments, **named: calls.append((name, arguments, named))


class Anything:
    def __init__(self, *_):
        self.cache_variables = variables

    def __getattr__(self, name):
        return note(name)


class Invalid(Exception):
    pass


class Recipe:
    requires = staticmethod(note("requires"))
    export_sources_folder = source_folder = package_folder = "/nowhere"


def read(_, path):
    with open(path) as file:
        return file.read()


variables = {}
for name, content in {
    "conan": {"ConanFile": Recipe},
    "conan.errors": {"ConanInvalidConfiguration": Invalid},
    "conan.tools": {},
    "conan.tools.build": {"can_run": lambda _: True},
    "conan.tools.cmake": {"CMake": Anything, "CMakeToolchain": Anything, "cmake_layout": note("cmake_layout")},
    "conan.tools.files": {"copy": note("copy"), "load": read, "rm": note("rm"), "rmdir": note("rmdir")},
    "conan.tools.gnu": {"PkgConfigDeps": Anything},
}.items():
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(content)


def load(path):
    spec = importlib.util.spec_from_file_location("conanfile", os.path.join(tree, path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


version = re.search(r'TWINLOG_VERSION "(.*)"', read(None, os.path.join(tree, "include/twinlog.h"))).group(1)
options = set(re.findall(r"^option\((\w+)", read(None, os.path.join(tree, "CMakeLists.txt")), re.MULTILINE))

for is_shared in False, True:
    recipe = load("packaging/conan/conanfile.py").TwinlogConan()
    recipe.recipe_folder = os.path.join(tree, "packaging/conan")
    recipe.options = types.SimpleNamespace(shared=is_shared, tools=True)
    recipe.settings = types.SimpleNamespace(os="Linux", arch="x86_64")
    recipe.cpp_info = Anything()
    for method in "set_version validate export_sources layout requirements generate build package package_info".split():
        getattr(recipe, method)()
    assert recipe.version == version, recipe.version
    assert recipe.cpp_info.libs == ["twinlog"]
    assert variables and set(variables) <= options, set(variables) - options
    copies = [arguments for name, arguments, _ in calls if name == "copy"]
    assert all(os.path.isfile(os.path.join(a[2].replace("/nowhere", tree), "CMakeLists.txt")) for a in copies), copies
recipe.settings.os = "Windows"
try:
    recipe.validate()
    raise AssertionError("Windows is not refused")
except Invalid:
    pass
assert hasattr(load("packaging/conan/test_package/conanfile.py").TestPackageConan, "test")

port = json.loads(read(None, os.path.join(tree, "packaging/vcpkg/vcpkg.json")))
assert port["version"] == version, port["version"]
portfile = read(None, os.path.join(tree, "packaging/vcpkg/portfile.cmake"))
assert all(feature in portfile for feature in port["features"])
