#!/usr/bin/env python3
"""Lists what is linked into the binaries of a release: the licenses' texts, and the components as CycloneDX JSON.

Crates come from cargo, with the texts that they carry. The standard library, and what zig links, are named here.

Usage: components.py VERSION TARGET ZIG-FOLDER LICENSES-FILE COMPONENTS-FILE
"""

import datetime
import json
import os
import pathlib
import re
import subprocess
import sys

PACKAGES = ["dime", "dime-cli"]
LICENSE_FILE = re.compile(r"((un)?licen[cs]e|copying|copyright|notice)[^.]*(\.(md|txt))?", re.IGNORECASE)
# Of crates under MIT alone that lack its text: the first line, from their repository.
COPYRIGHTS = {"plotters": "Copyright (c) 2019 Hao Hou <haohou302@gmail.com>"}

# What is linked in and is no crate: name, license, and whose it is.
RUST = ("rust-std", "MIT OR Apache-2.0", "Rust's standard library, copyright The Rust Project contributors, taken under Apache-2.0")
# With their texts below the folder of zig, which links them.
BY_ZIG = [
    ("libunwind", "Apache-2.0 WITH LLVM-exception", "lib/libunwind/LICENSE.TXT"),
    ("compiler-rt", "MIT", "LICENSE"),
]


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def linked_crates(target):
    """The crates of others in the binaries, sorted: cargo's descriptions, each with its dependencies among them."""
    named = set()
    for package in PACKAGES:
        tree = run("cargo", "tree", "--locked", "--package", package, "--target", target, "--edges", "normal,no-proc-macro",
                   "--prefix", "none", "--no-dedupe", "--format", "{p}")
        named |= {tuple(line.split()[:2]) for line in tree.splitlines() if line}
    metadata = json.loads(run("cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target))
    crates = {crate["id"]: crate for crate in metadata["packages"]
              if crate["source"] and (crate["name"], "v" + crate["version"]) in named}
    for node in metadata["resolve"]["nodes"]:
        if node["id"] in crates:
            crates[node["id"]]["linked"] = sorted(purl(crates[other]) for other in node["dependencies"] if other in crates)
    return sorted(crates.values(), key=lambda crate: (crate["name"], crate["version"]))


def purl(crate):
    return f"pkg:cargo/{crate['name']}@{crate['version']}"


def license_of(crate):
    """The expression; a slash is how old crates write OR."""
    if not crate["license"]:
        sys.exit(f"components: {crate['name']} {crate['version']} names no license")
    return re.sub(r"\s*/\s*", " OR ", crate["license"])


def read(path):
    return path.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n").strip()


def texts_of(crate):
    """The texts that a crate carries, those of fonts and the like in it included. In its place, where it carries none, the text of the
    license of its own that is taken."""
    folder = pathlib.Path(crate["manifest_path"]).parent
    texts = [read(path) for path in sorted(folder.rglob("*")) if path.is_file() and LICENSE_FILE.fullmatch(path.name)]
    # A link that was packed as a file holds only a path.
    texts = [text for text in texts if "\n" in text]
    if texts:
        return texts
    expression = license_of(crate)
    if "Apache-2.0" in expression:
        return [read(pathlib.Path("LICENSE-APACHE"))]
    holder = COPYRIGHTS.get(crate["name"].split("-")[0])
    if expression != "MIT" or not holder:
        sys.exit(f"components: {crate['name']} {crate['version']} ({expression}) carries no license text; see COPYRIGHTS")
    return [re.sub("Copyright .*", holder, read(pathlib.Path("LICENSE-MIT")), count=1)]


def licenses(crates, zig):
    """All texts, each once, with the names of those that it is for."""
    users = {}
    for crate in crates:
        for text in dict.fromkeys(texts_of(crate)):
            users.setdefault(text, []).append(f"{crate['name']} {crate['version']}")
    users.setdefault(read(pathlib.Path("LICENSE-APACHE")), []).append(RUST[2])
    for name, _, text in BY_ZIG:
        users.setdefault(read(zig / text), []).append(f"zig's {name}")
    lines = ["What is linked into Dime's binaries besides Dime, with its license; the texts follow.", ""]
    lines += [f"{crate['name']} {crate['version']}: {license_of(crate)}" for crate in crates]
    lines += [f"{name}: {expression}" for name, expression, _ in (RUST, *BY_ZIG)]
    for text, names in users.items():
        lines += ["", "=" * 78, "For " + ", ".join(names), "-" * 78, "", text]
    return "\n".join(lines) + "\n"


def checksums():
    """The checksum of each crate in Cargo.lock."""
    lock = pathlib.Path("Cargo.lock").read_text(encoding="utf-8")
    entry = re.compile(r'name = "(.*)"\nversion = "(.*)"\nsource = ".*"\nchecksum = "(.*)"')
    return {(name, version): checksum for name, version, checksum in entry.findall(lock)}


def components(version, crates, zig):
    """CycloneDX 1.5."""
    known = checksums()
    released = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
    dime = {"type": "library", "bom-ref": "dime", "name": "dime", "version": version,
            "licenses": [{"expression": "MIT OR Apache-2.0"}]}
    listed = [{"type": "library", "bom-ref": purl(crate), "name": crate["name"], "version": crate["version"],
               "hashes": [{"alg": "SHA-256", "content": known[crate["name"], crate["version"]]}],
               "licenses": [{"expression": license_of(crate)}], "purl": purl(crate)} for crate in crates]
    versions = {"rust-std": run("rustc", "--version").split()[1]}
    versions |= {name: run(zig / "zig", "version").strip() for name, _, _ in BY_ZIG}
    listed += [{"type": "library", "bom-ref": name, "name": name, "version": versions[name],
                "licenses": [{"expression": expression}]} for name, expression, _ in (RUST, *BY_ZIG)]
    depends = [{"ref": "dime", "dependsOn": [component["bom-ref"] for component in listed]}]
    depends += [{"ref": purl(crate), "dependsOn": crate["linked"]} for crate in crates]
    return {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
            "metadata": {"timestamp": released.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": dime},
            "components": listed, "dependencies": depends}


def main(arguments):
    if len(arguments) != 5:
        sys.exit(__doc__)
    version, target, zig, licenses_file, components_file = arguments
    zig = pathlib.Path(zig)
    crates = linked_crates(target)
    pathlib.Path(licenses_file).write_text(licenses(crates, zig), encoding="utf-8")
    text = json.dumps(components(version, crates, zig), indent=1, ensure_ascii=False)
    pathlib.Path(components_file).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
