#!/usr/bin/python3
"""What `meson install` puts where, used from outside of the tree as anybody would: with pkg-config, from C and C++.
Usage: test_install.py MESON BUILD SOURCE CC IRONWALD C|C++|static|ABI [CASE...]

It is installed below a private directory first. Where all cases of a part cannot be run, it says why and ends with 77,
which meson counts as skipped.
"""

import atexit
import functools
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import harness
from harness import Daemon, cases_of, check, directory, same

MESON, BUILD, SOURCE, CC = (sys.argv.pop(1) for _ in range(4))
EXAMPLES = os.path.join(SOURCE, "client", "examples")
# Files of each, and what it needs besides. All of the directory is in here.
PROGRAMS = {
    "sharded": (["sharded.c"], []),
    "poll": (["poll.c", "writer.c"], []),
    "uv": (["uv.c", "writer.c"], ["libuv"]),
}
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", "-pedantic"]
C_STANDARDS = ("c99", "c11", "c17")
CPP_STANDARDS = ("c++11", "c++20")
SKIPPED = 77


def said(*command, **how):
    """What the command prints; it must succeed."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **how)
    check(done.returncode == 0, "%s: status %d: %s%s", " ".join(command), done.returncode, done.stdout, done.stderr)
    return done.stdout


def text_of(*path):
    with open(os.path.join(*path)) as file:
        return file.read()


class Installed:
    """A tree below a private directory, and how to compile against it."""

    def __init__(self):
        self.place = tempfile.mkdtemp(prefix="ironwald-test-")
        atexit.register(shutil.rmtree, self.place)
        self.work = os.path.join(self.place, "work")
        shutil.copytree(EXAMPLES, self.work)
        self.root = root = os.path.join(self.place, "root")
        options = {o["name"]: o["value"] for o in json.loads(said(MESON, "introspect", "--buildoptions", BUILD))}
        said(MESON, "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", root)
        dirs = {name: root + os.path.join(options["prefix"], options[name])
                for name in ("bindir", "libdir", "includedir", "mandir", "datadir")}
        self.bin, self.lib, self.include, self.man, self.data = dirs.values()
        self.env = dict(
            os.environ,
            PKG_CONFIG_PATH=os.path.join(self.lib, "pkgconfig"),
            PKG_CONFIG_SYSROOT_DIR=root,
            LD_LIBRARY_PATH=self.lib,
        )
        self.tls = options["tls"] != "disabled"  # where it is found: the daemon needs it in any case
        # A program of a sanitizer's library needs that sanitizer, too.
        self.sanitize = options["b_sanitize"]
        self.flags = [] if self.sanitize == "none" else ["-fsanitize=" + self.sanitize, "-g"]

    def library(self, name="libironwal.so"):
        return os.path.join(self.lib, name)

    def pkg_config(self, *args):
        return said("pkg-config", *args, env=self.env).split()

    def compile(self, compiler, files, output, *flags, packages=(), static=False):
        """Compiles and links against what is installed; static: with its libironwal.a."""
        found = self.pkg_config(*(["--static"] if static else []), "--cflags", "--libs", "ironwal")
        if static:
            check("-lironwal" in found, "pkg-config: %s", found)
            found = ["-l:libironwal.a" if flag == "-lironwal" else flag for flag in found]
        for package in packages:  # as it is on this machine
            found += said("pkg-config", "--cflags", "--libs", package).split()
        said(*compiler, *self.flags, *WARNINGS, *flags, *files, "-x", "none", *found, "-o", output, cwd=self.work)
        uses = "libironwal.so.0" in needed(os.path.join(self.work, output))
        check(uses != static, "%s: is it static?", output)

    def run(self, program, *args, **env):
        return said(os.path.join(self.work, program), *args, cwd=self.work, env=dict(self.env, **env),
                    timeout=harness.DEADLINE_S)


@functools.lru_cache(None)
def installed():
    return Installed()


def needed(path):
    return re.findall(r"\(NEEDED\).*\[(.*)\]", said("readelf", "-d", path))


def equal(got, expected, what):
    """Of sets of names; says only what differs."""
    got, expected = set(got), set(expected)
    check(got == expected, "%s: too many %s, missing %s", what, sorted(got - expected), sorted(expected - got))


def names_of_map():
    return re.findall(r"^\s*(ironwal_\w+);$", text_of(SOURCE, "client", "libironwal.map"), re.M)


def squeezed(text):
    """C without comments and superfluous space."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    return re.sub(r" ?([*(),;{}]) ?", r"\1", " ".join(text.split()))


def headers():
    return "".join(text_of(installed().include, name) for name in ("ironwal.h", "ironwal_submit.h"))


def prototypes():
    """{name: prototype} of what the headers declare as exported."""
    text = re.sub(r"^#.*?(?<!\\)$", "", headers(), flags=re.M | re.S)
    found = re.findall(r"IRONWAL_API\s+([^;]*);", text)
    return {re.search(r"(\w+)\s*\(", one).group(1): squeezed(one) for one in found}


# ---- cases: what is there ----


def test_files_are_where_they_should_be():
    it = installed()
    equal(os.listdir(it.include), ["ironwal.h", "ironwal_submit.h"], "headers")
    version = re.search(r'VERSION_STRING "(.*)"', headers()).group(1)
    libraries = ["libironwal.a", "libironwal.so", "libironwal.so.0", "libironwal.so." + version]
    equal(os.listdir(it.lib), libraries + ["pkgconfig"], "libraries")
    for page in ("man1/ironwal.1", "man3/libironwal.3", "man5/ironwald.conf.5", "man8/ironwald.8"):
        check(os.path.getsize(os.path.join(it.man, page)) > 0, page)
    check(os.path.isfile(os.path.join(it.data, "doc", "ironwald", "ironwald.conf")), "the sample of a configuration")
    check(os.path.isfile(os.path.join(it.data, "doc", "ironwald", "ironwald.rules.yml")), "alerts")
    same(said(os.path.join(it.bin, "ironwal"), "--version").split(), ["ironwal", version], "the tool")
    same(said(os.path.join(it.bin, "ironwald"), "--version").split(), ["ironwald", version], "the daemon")
    planned = json.loads(said(MESON, "introspect", "--installed", BUILD)).values()
    for path in planned:
        check(os.path.getsize(it.root + path) > 0, path)
    completions = [path for path in planned if "bash-completion" in path]
    same(it.pkg_config("--modversion", "ironwal"), [version], "the version of pkg-config")
    return "with bash completion" if completions else "without bash completion"


def test_exports_are_the_map_and_the_headers():
    it = installed()
    listed = names_of_map()
    check(len(listed) > 50, "the map lists %d names", len(listed))
    same(len(set(listed)), len(listed), "names that the map lists")
    equal(listed, prototypes(), "the map, by what is declared")
    lines = said("nm", "-D", "--defined-only", "--format=posix", it.library()).splitlines()
    found = [line.split()[:2] for line in lines]
    same([name.partition("@")[0] for name, kind in found if kind == "A"], ["IRONWAL_0"], "versions")
    exported = [name for name, kind in found if kind != "A"]
    equal(exported, [name + "@@IRONWAL_0" for name in listed], "what the shared library exports")
    same(re.findall(r"\(SONAME\).*\[(.*)\]", said("readelf", "-d", it.library())), ["libironwal.so.0"], "soname")
    if it.sanitize == "none":
        ours = [name for name in needed(it.library()) if not re.match(r"(libc|ld-linux.*)\.so", name)]
        same(sorted(ours), sorted(["libxxhash.so.0"] + (["libcrypto.so.3", "libssl.so.3"] if it.tls else [])), "libraries that it needs")
    private = [word for word in it.pkg_config("--print-requires-private", "ironwal") if re.match("[a-z]", word)]
    same(private, ["libxxhash"] + (["openssl"] if it.tls else []), "what it needs for static linking")
    return "%d functions" % len(listed)


def test_static_archive_is_whole():
    """It has all objects in itself, and no name that could clash with one of a program."""
    it = installed()
    with open(it.library("libironwal.a"), "rb") as file:
        same(file.read(8), b"!<arch>\n", "the archive's beginning: a thin one names files of the build")
    lines = said("nm", "-g", "--defined-only", "--format=posix", it.library("libironwal.a")).splitlines()
    symbols = [line.split()[0] for line in lines if len(line.split()) > 1]
    if it.sanitize != "none":  # its own names for globals
        symbols = [name for name in symbols if not re.match(r"__(odr_)?[atu]?san", name)]
    equal(symbols, names_of_map(), "what the static library shows")


# ---- cases: the manual page ----


def page():
    return text_of(installed().man, "man3", "libironwal.3")


def section(name):
    return re.search(r'^\.Sh %s\n(.*?)(?=^\.Sh |\Z)' % name, page(), re.M | re.S).group(1)


def arguments(line):
    """Of a macro."""
    return [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', line)]


def test_page_documents_every_function():
    synopsis, kind, shown = section("SYNOPSIS"), None, {}
    for macro, rest in re.findall(r"^\.(Ft|Fn|Fo|Fa|Fc)(.*)$", synopsis, re.M):
        if macro == "Ft":
            kind = arguments(rest)[0]
        elif macro == "Fn":
            name, *params = arguments(rest)
            shown[name] = squeezed("%s %s(%s)" % (kind, name, ", ".join(params)))
        elif macro == "Fo":
            name, params = rest.strip(), []
        elif macro == "Fa":
            params += arguments(rest)
        else:
            shown[name] = squeezed("%s %s(%s)" % (kind, name, ", ".join(params)))
    declared = prototypes()
    equal(declared, names_of_map(), "what is declared, by the map")
    equal(shown, declared, "the synopsis")
    for name in declared:
        same(shown[name], declared[name], "the synopsis")
    described = set()
    for line in re.findall(r"^\.(?:It )?Fn (.*)$", section("DESCRIPTION"), re.M):
        described |= set(re.findall(r"ironwal_\w+", line))
    equal(set(declared) - described, [], "what is not described")
    return "%d functions" % len(shown)


def test_page_says_what_the_headers_say():
    text, source = page(), headers()
    words, told = (set(re.findall(r"\b(?:ironwal|IRONWAL)_\w*[A-Za-z0-9]\b", where)) for where in (source, text))
    equal(told - words, [], "names that there are not")
    constants = {word for word in words if re.match(r"IRONWAL_((ERR|FATE|STATE|VERSION)_|\w+(ABLE|_INIT)$)", word)}
    equal(constants - told, [], "constants that are not in it")
    pattern = re.compile(r"typedef struct (\w+) \{.*?\n\} \w+;", re.S)
    structs = {found.group(1): squeezed(found.group(0)) for found in pattern.finditer(source)}
    shown = {found.group(1): squeezed(found.group(0)) for found in pattern.finditer(text)}
    check(len(shown) > 8, "%d structs are shown", len(shown))
    for name in shown:
        same(shown[name], structs.get(name), "struct " + name)


def page_examples():
    found = re.findall(r"^\.Bd -literal -offset indent\n(.*?)^\.Ed", section("EXAMPLES"), re.M | re.S)
    return [text.replace("\\e", "\\") for text in found if "main(" in text]


def page_programs(compiler, suffix):
    it = installed()
    examples = page_examples()
    same(len(examples), 2, "programs in the page")
    with directory() as place, Daemon(place) as daemon:
        for number, (text, output) in enumerate(zip(examples, ("0 hello\n", "10000 of 10000 written\n"))):
            name = "page-%d%s" % (number, suffix)
            with open(os.path.join(it.work, name), "w") as file:
                file.write(text)
            it.compile(compiler, [name], name + ".program")
            same(it.run(name + ".program", IRONWAL_CONNECT="unix:" + daemon.unix), output, name)
            nobody = dict(it.env, IRONWAL_CONNECT="unix:" + os.path.join(place, "nobody"))
            done = subprocess.run([os.path.join(it.work, name + ".program")], env=nobody, stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, timeout=harness.DEADLINE_S)
            check(done.returncode == 1 and "cannot connect" in done.stderr, "%s without a daemon: %s", name, done)
        with daemon.client() as client:
            same([int.from_bytes(e, sys.byteorder) for _, e in client.scan("numbers")], list(range(10000)), "numbers")
        daemon.stopped_well()


def test_page_examples():
    page_programs([CC, "-std=c99"], ".c")


def test_readme_example():
    """With the command line that stands there."""
    it = installed()
    programs = re.findall(r"^```c\n(.*?)^```", text_of(SOURCE, "README.md"), re.M | re.S)
    same(len(programs), 1, "programs in the README")
    with open(os.path.join(it.work, "readme.c"), "w") as file:
        file.write(programs[0])
    it.compile([CC], ["readme.c"], "readme.program")
    with directory() as place, Daemon(place) as daemon:
        same(it.run("readme.program", IRONWAL_CONNECT="unix:" + daemon.unix), "entry 0\n", "the README's program")
        daemon.stopped_well()


# ---- cases: programs ----


def header_alone(compiler, suffix):
    it = installed()
    for header in ("ironwal.h", "ironwal_submit.h"):
        name = "alone_%s%s" % (header.replace(".", "_"), suffix)
        with open(os.path.join(it.work, name), "w") as file:
            # Something of each of the two, whichever was included.
            file.write("#include <%s>\nint main(void);\nint main(void)\n{\n"
                       "\tironwal_options options = IRONWAL_OPTIONS_INIT;\n"
                       "\tconst ironwal_error *(*error_of)(const ironwal_result *) = ironwal_result_error;\n"
                       "\treturn options.struct_size > 0 && ironwal_version_number() == IRONWAL_VERSION && error_of\n"
                       "\t\t? 0 : 1;\n}\n" % header)
        it.compile(compiler, [name], name + ".program")
        it.run(name + ".program")


def runs(it, daemon, suffix):
    """Each of the programs does its work."""
    address = "unix:" + daemon.unix
    it.run("sharded" + suffix, address, "write")
    check("250 entries replayed" in it.run("sharded" + suffix, address, "replay"), "sharded")
    for name in ("poll", "uv"):
        program = name + suffix
        if os.path.exists(os.path.join(it.work, program)):
            lines = it.run(program, address, "3", "100", "12").splitlines()
            same(lines, ["stream %s-%d: 100 entries, 0 reconnects, 0 settled" % (name, i) for i in range(3)], program)
            with daemon.client() as client:
                for i in range(3):
                    same(client.stream_info("%s-%d" % (name, i))["end"], 100, "entries")


def examples(compiler, suffix, *flags, static=False, without=()):
    it = installed()
    for name, (files, packages) in PROGRAMS.items():
        if name not in without:
            it.compile(compiler, files, name + suffix, *flags, packages=packages, static=static)
    with directory() as place, Daemon(place) as daemon:
        runs(it, daemon, suffix)
        daemon.stopped_well()


def test_headers_in_c():
    for standard in C_STANDARDS:
        header_alone([CC, "-std=" + standard], "-%s.c" % standard)


def test_examples_in_c():
    there = {os.path.basename(path) for path in glob.glob(os.path.join(EXAMPLES, "*.c"))}
    equal({file for files, _ in PROGRAMS.values() for file in files}, there, "examples that are compiled here")
    examples([CC, "-std=c99"], ".c99")
    examples([CC, "-std=c17"], ".c17")


def test_examples_with_the_static_library():
    examples([CC, "-std=c99"], ".a", static=True)


def test_wholly_static_program():
    """Nothing shared is left, not even the C library."""
    # That a lookup of names would load shared libraries is said by the linker, and of no matter for numbers. There is
    # no libuv.a everywhere.
    examples([CC, "-std=c99"], ".static", "-static", static=True, without=("uv",))
    same(needed(os.path.join(installed().work, "poll.static")), [], "shared libraries that it needs")


def test_headers_in_cpp():
    for standard in CPP_STANDARDS:
        header_alone([cpp(), "-std=" + standard], "-%s.cpp" % standard)


def test_examples_in_cpp():
    for standard in CPP_STANDARDS:
        examples([cpp(), "-std=" + standard, "-x", "c++"], "." + standard)
        examples([cpp(), "-std=" + standard, "-x", "c++"], "." + standard + ".a", static=True)


def test_page_examples_in_cpp():
    page_programs([cpp(), "-std=c++11"], ".cpp")


# ---- cases: the binary interface ----


def compared(edit):
    """What becomes of the comparison with the last release if that was the edited one: status, what it says."""
    before = text_of(SOURCE, "client", "libironwal.abi")
    after = edit(before) if edit else before
    check(not edit or after != before, "what is to be edited is not in libironwal.abi")
    with tempfile.NamedTemporaryFile("w", suffix=".abi") as baseline:
        baseline.write(after)
        baseline.flush()
        command = ["sh", os.path.join(SOURCE, "client", "abi.sh"), "check", installed().library(), baseline.name]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def differs(what, edit):
    """The comparison must fail, and say this."""
    status, told = compared(edit)
    check(status & 4 and not status & 3 and re.search(what, told), "%r was expected: %d: %s", what, status, told)


def test_abi_is_that_of_the_last_release():
    status, told = compared(None)
    check(status == 0, "status %d: %s", status, told)


def test_abi_may_grow():
    """The last release had one function less."""
    name = "ironwal_version_number"
    symbol = " *<elf-symbol name='%s' .*/>\n" % name
    function = " *<function-decl name='%s' (?:.*\n)*?.*</function-decl>\n" % name
    status, told = compared(lambda text: re.sub(symbol + "|" + function, "", text))
    check(status == 0, "status %d: %s", status, told)


def test_abi_lost_a_function():
    differs("Removed function.*\n.*\n.*ironwal_gone",
            lambda text: re.sub(r"( *<elf-symbol name=')ironwal_append('.*\n)", r"\g<0>\1ironwal_gone\2", text))


def test_abi_changed_a_struct():
    """The last release had one number less in it."""
    differs("data member insertion",
            lambda text: re.sub(r"(name='ironwal_stream_info' size-in-bits=')320('(?:.*\n)*?)"
                                r" *<data-member .*'256'>\n.*\n *</data-member>\n", r"\g<1>256\2", text))


def test_abi_changed_a_constant():
    constant = "name='IRONWAL_STATE_LOST' value='%d'"
    differs("IRONWAL_STATE_LOST", lambda text: text.replace(constant % 2, constant % 7))


def test_abi_changed_a_parameter():
    """The last release's timeout was of another type."""

    def edit(text):
        other = re.search(r"<type-decl name='int' .*id='(.*)'/>", text).group(1)
        timeout = r"(name='ironwal_set_timeout_ms' (?:.*\n){2} *<parameter type-id=')[^']*"
        return re.sub(timeout, lambda found: found.group(1) + other, text)

    differs("ironwal_set_timeout_ms", edit)


# ---- what cannot be run here ----


def cpp():
    """The C++ compiler that belongs to CC: the two need the same sanitizers."""
    name = re.sub(r"clang(?=(-[\d.]+)?$)", "clang++", os.path.basename(CC))
    return re.sub(r"\bg?cc(?=(-[\d.]+)?$)", "g++", name)


def part_of(case):
    for part, pattern in (("static", "test_wholly_static"), ("C++", ".*_cpp$"), ("ABI", "test_abi_")):
        if re.match(pattern, case.__name__):
            return part
    return "C"


def missing(part):
    """Why it cannot be run, or None."""
    if part == "C++" and not shutil.which(cpp()):
        return "there is no " + cpp()
    if part == "ABI":
        if not shutil.which("abidw") or not shutil.which("abidiff"):
            return "there is no abidiff (Debian: abigail-tools)"
        if ".debug_info" not in said("readelf", "-S", "-W", installed().library()):
            return "the library has no debugging information"
    if part == "static":
        if installed().sanitize != "none":
            return "the sanitizers' libraries are shared"
        with tempfile.NamedTemporaryFile() as output:
            command = [CC, "-x", "c", "-", "-x", "none", "-static", "-lxxhash", *(["-lssl", "-lcrypto"] if installed().tls else []), "-o", output.name]
            if subprocess.run(command, input="int main(void) { return 0; }", text=True, capture_output=True).returncode:
                return "there are no static libraries of the C library, of xxHash and of OpenSSL"
    return None


def main():
    part = sys.argv.pop(2)
    reason = missing(part)
    if reason:
        print("skipped: " + reason)
        sys.exit(SKIPPED)
    cases = [case for case in cases_of(globals()) if part_of(case) == part]
    # The daemon that is installed, too.
    sys.argv[1] = os.path.join(installed().bin, "ironwald")
    harness.main(cases)


if __name__ == "__main__":
    main()
